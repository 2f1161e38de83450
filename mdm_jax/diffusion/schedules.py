"""How masks are spread over time: alpha(t), the probability that a token is still unmasked at time t."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdm_jax.errors import MdmError


@runtime_checkable
class Schedule(Protocol):
    """alpha falls from 1 at t=0 (clean) to 0 at t=1 (all masked). Hashable, so it may be static."""

    def alpha(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """Probability that a token is unmasked at time t."""
        ...

    def time(self, alpha: Float[Array, ""]) -> Float[Array, ""]:
        """The inverse: the time at which a token is unmasked with probability alpha."""
        ...


@dataclass(frozen=True)
class Linear:
    """alpha(t) = 1 - t."""

    def alpha(self, t: Float[Array, ""]) -> Float[Array, ""]:
        return 1.0 - t

    def time(self, alpha: Float[Array, ""]) -> Float[Array, ""]:
        return 1.0 - alpha


@dataclass(frozen=True)
class Cosine:
    """alpha(t) = 1 - cos(pi/2 (1 - t)): MaskGIT's cosine, few reveals early and many late."""

    def alpha(self, t: Float[Array, ""]) -> Float[Array, ""]:
        return 1.0 - jnp.cos(0.5 * jnp.pi * (1.0 - t))

    def time(self, alpha: Float[Array, ""]) -> Float[Array, ""]:
        return 1.0 - 2.0 / jnp.pi * jnp.arccos(1.0 - alpha)


@dataclass(frozen=True)
class Polynomial:
    """alpha(t) = 1 - t^exponent.

    Raises:
      MdmError: the exponent is not positive.
    """

    exponent: float = 2.0

    def __post_init__(self) -> None:
        if not self.exponent > 0:
            raise MdmError(f"polynomial exponent must be positive, got {self.exponent}")

    def alpha(self, t: Float[Array, ""]) -> Float[Array, ""]:
        return 1.0 - t**self.exponent

    def time(self, alpha: Float[Array, ""]) -> Float[Array, ""]:
        return (1.0 - alpha) ** (1.0 / self.exponent)


def weight(schedule: Schedule, t: Float[Array, ""]) -> Float[Array, ""]:
    """Weight -alpha'(t) / (1 - alpha(t)) of a masked token's loss; 1/t when linear.

    0 at times so small that alpha rounds to 1, where nothing can be masked.

    Reference: MD4, arXiv:2406.04329, Eq. 4 (the sign is absorbed: this weight is positive).
    """
    alpha, slope = jax.value_and_grad(schedule.alpha)(t)
    return per_masked(-slope, alpha)


def per_masked(rate: Float[Array, ""], alpha: Float[Array, ""]) -> Float[Array, ""]:
    """rate / (1 - alpha), and 0 instead of infinity where alpha has rounded to 1."""
    masked = 1.0 - alpha
    return jnp.where(masked > 0, rate / jnp.where(masked > 0, masked, 1.0), 0.0)
