"""Settings that do not fit each other, refused before anything is compiled."""

import numpy as np

from mdm_jax.denoisers.base import (
    DenoiseCached,
    DenoiseDependence,
    DenoiseHidden,
    DenoiseTimed,
    DenoiseVerifier,
)
from mdm_jax.errors import MdmError
from mdm_jax.policies.base import (
    Clock,
    time_of,
    wants_dependence,
    wants_hidden,
    wants_lookahead,
    wants_verifier,
)
from mdm_jax.sampling.rows import Sampler

START = Clock(np.int32(0), np.int32(1))  # for a policy to say whether it keeps time at all


def check_denoiser(sampler: Sampler) -> None:
    """Raise ValueError if the denoiser lacks a method that policy or cache need."""
    denoise, policy, config = sampler
    name, given = type(policy).__name__, type(denoise).__name__
    if wants_hidden(policy) and not isinstance(denoise, DenoiseHidden):
        raise MdmError(
            f"{name} wants hidden states, but the denoiser {given} gives none: it has no method "
            "with_hidden"
        )
    if wants_verifier(policy) and not isinstance(denoise, DenoiseVerifier):
        raise MdmError(
            f"{name} wants verifier logits, but the denoiser {given} gives none: it has no method "
            "with_verifier_logits"
        )
    if wants_verifier(policy) and (wants_hidden(policy) or config.cache is not None):
        raise MdmError(
            f"{name} wants verifier logits, which cannot be combined with hidden states or a cache"
        )
    if wants_dependence(policy) and not isinstance(denoise, DenoiseDependence):
        raise MdmError(
            f"{name} wants dependence, but the denoiser {given} gives none: it has no method "
            "with_dependence"
        )
    others = wants_hidden(policy) or wants_verifier(policy) or config.cache is not None
    if wants_dependence(policy) and others:
        raise MdmError(
            f"{name} wants dependence, which cannot be combined with hidden states, verifier logits or a "
            "cache"
        )
    if isinstance(denoise, DenoiseTimed) and time_of(policy, START) is None:
        raise MdmError(
            f"the denoiser {given} depends on time, and {name} has none: choose a policy that reverses a "
            "diffusion, such as RatedAncestral"
        )
    if wants_lookahead(policy) and config.cache is not None:
        raise MdmError(f"{name} looks ahead, which cannot be combined with a cache")
    if config.cache is not None and not isinstance(denoise, DenoiseCached):
        raise MdmError(
            f"the denoiser {given} keeps no cache: it has no methods prefill, extend and read; "
            "sample with cache None"
        )
