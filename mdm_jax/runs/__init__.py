"""Run directories: opened, described, and a denoiser or a policy loaded from one."""

from mdm_jax.runs.denoisers import LoadedDenoiser, exact_denoiser, load_denoiser
from mdm_jax.runs.directory import open_run
from mdm_jax.runs.metrics import MetricsLog, read_metrics
from mdm_jax.runs.policies import load_policy
from mdm_jax.runs.published import Loading

__all__ = [
    "LoadedDenoiser",
    "Loading",
    "MetricsLog",
    "exact_denoiser",
    "load_denoiser",
    "load_policy",
    "open_run",
    "read_metrics",
]
