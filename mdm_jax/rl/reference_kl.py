"""Divergence of a one-position-per-step policy from a reference order, nats per step.

Reference: UPO, Hong et al., arXiv:2510.05725.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from mdm_jax.errors import check_range
from mdm_jax.policies.action_distributions import Utilities, masked_log_softmax
from mdm_jax.types import Mask, Scalar

Confidence = Float[Array, " length"]


@dataclass(frozen=True)
class MaxConfidence:
    """Cross-entropy to the most confident position; equally confident ones are equally probable."""

    def __call__(self, utilities: Utilities, confidence: Confidence, eligible: Mask) -> Scalar:
        best = jnp.max(jnp.where(eligible, confidence, -jnp.inf))
        target = (eligible & (confidence >= best)).astype(jnp.float32)
        target /= jnp.maximum(jnp.sum(target), 1.0)
        return -jnp.sum(target * masked_log_softmax(utilities, eligible))


@dataclass(frozen=True)
class SoftmaxConfidence:
    """KL(policy || softmax(confidence / temperature)).

    Raises:
      MdmError: the temperature is not positive.
    """

    temperature: float = 0.05

    def __post_init__(self) -> None:
        check_range("temperature", self.temperature, above=0)

    def __call__(self, utilities: Utilities, confidence: Confidence, eligible: Mask) -> Scalar:
        return _kl(utilities, confidence / self.temperature, eligible)


@dataclass(frozen=True)
class Uniform:
    """KL(policy || uniform over the eligible positions); with the policy's `candidate_top_k` this is
    UPO's top-K reference.
    """

    def __call__(self, utilities: Utilities, confidence: Confidence, eligible: Mask) -> Scalar:
        return _kl(utilities, jnp.zeros_like(utilities), eligible)


# (utilities, confidence, eligible) -> divergence of softmax(utilities) from the reference
ReferenceOrder = MaxConfidence | SoftmaxConfidence | Uniform


def _kl(utilities: Utilities, reference: Utilities, eligible: Mask) -> Scalar:
    """KL(softmax(utilities) || softmax(reference)) over the eligible positions."""
    log_p, log_q = (masked_log_softmax(x, eligible) for x in (utilities, reference))
    return jnp.sum(jnp.where(eligible, jnp.exp(log_p) * (log_p - log_q), 0.0))
