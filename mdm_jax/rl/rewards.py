"""What a finished sequence is worth: correctness against the denoiser calls it took."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool

from mdm_jax.types import Count, Scalar


@dataclass(frozen=True)
class Multiplicative:
    """correct * ((most - nfe + 1) / most)^compute_weight: being wrong is worth nothing at any speed.

    One call earns 1, the most calls (1 / most)^compute_weight. Reference: arXiv:2512.09106.

    Attributes:
      compute_weight: how much speed counts; 0: not at all.
    """

    compute_weight: float = 1.0

    def __post_init__(self) -> None:
        _check(self.compute_weight)

    def __call__(self, correct: Bool[Array, ""], nfe: Count, most: int) -> Scalar:
        speed = (most - jnp.minimum(nfe, most) + 1) / most
        return correct * speed**self.compute_weight


@dataclass(frozen=True)
class Additive:
    """correct - compute_weight * nfe / most: fast and wrong can beat slow and right.

    The published ablation, under which policies collapse to revealing everything in one step.

    Attributes:
      compute_weight: price of the most calls possible.
    """

    compute_weight: float = 1.0

    def __post_init__(self) -> None:
        _check(self.compute_weight)

    def __call__(self, correct: Bool[Array, ""], nfe: Count, most: int) -> Scalar:
        return correct - self.compute_weight * nfe / most


Reward = Multiplicative | Additive  # correct, denoiser calls, most calls possible -> reward


def _check(compute_weight: float) -> None:
    if compute_weight < 0:
        raise ValueError(f"compute_weight must not be negative, got {compute_weight}")
