"""Digits as captions, images and speech: one stream of three modalities."""

from mdm_jax.tasks.digits3.task import Digits3

__all__ = ["Digits3"]
