"""Masked diffusion models in JAX, and the order in which they generate."""

from typing import Any

from mdm_jax.denoisers.base import bind
from mdm_jax.policies.heuristics import (
    Ancestral,
    ConfidenceThreshold,
    EntropyBound,
    Factor,
    LeftToRight,
    LowEntropy,
    Random,
    TopConfidence,
    TopMargin,
)
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample, sample_one, sweep
from mdm_jax.types import Rollout

__all__ = [
    "Ancestral",
    "ConfidenceThreshold",
    "EntropyBound",
    "Factor",
    "LearnedPolicy",
    "LeftToRight",
    "LowEntropy",
    "Random",
    "Rollout",
    "SamplerConfig",
    "TopConfidence",
    "TopMargin",
    "bind",
    "load_denoiser",
    "load_policy",
    "sample",
    "sample_one",
    "sweep",
]


def __getattr__(name: str) -> Any:
    """`load_denoiser` and `load_policy` on first use: they need checkpoints and tasks."""
    if name not in ("load_denoiser", "load_policy"):
        raise AttributeError(f"module 'mdm_jax' has no attribute {name!r}")
    from mdm_jax import runs

    return getattr(runs, name)
