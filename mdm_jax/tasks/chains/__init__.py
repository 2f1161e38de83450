"""Chains of arithmetic."""

from mdm_jax.tasks.chains.task import Chains

__all__ = ["Chains"]
