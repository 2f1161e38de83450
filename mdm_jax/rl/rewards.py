"""Rewards of a finished sequence: its correctness, and the denoiser calls that it took."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool

from mdm_jax.errors import check_range
from mdm_jax.types import Count, Scalar


@dataclass(frozen=True)
class Multiplicative:
    """correct * ((most - nfe + 1) / most)^compute_weight; 0 for a wrong answer at any speed.

    A correct answer earns 1 with one call and (1 / most)^compute_weight with the most calls.
    Reference: arXiv:2512.09106.

    Attributes:
      compute_weight: weight of speed; 0: correctness alone.
    """

    compute_weight: float = 1.0

    def __post_init__(self) -> None:
        check_range("compute_weight", self.compute_weight, 0)

    def __call__(self, correct: Bool[Array, ""], nfe: Count, most: int) -> Scalar:
        return multiplicative(correct, nfe, most, self.compute_weight)


@dataclass(frozen=True)
class Additive:
    """correct - compute_weight * nfe / most: a fast wrong answer can earn more than a slow right one.

    An ablation of arXiv:2512.09106, under which policies collapse to revealing all in one step.

    Attributes:
      compute_weight: cost of the most calls possible.
    """

    compute_weight: float = 1.0

    def __post_init__(self) -> None:
        check_range("compute_weight", self.compute_weight, 0)

    def __call__(self, correct: Bool[Array, ""], nfe: Count, most: int) -> Scalar:
        return additive(correct, nfe, most, self.compute_weight)


def multiplicative(
    correct: Bool[Array, ""], nfe: Count, most: int, compute_weight: float | Scalar
) -> Scalar:
    """The reward of `Multiplicative`, at a weight that may be traced."""
    speed = (most - jnp.minimum(nfe, most) + 1) / most
    return correct * speed**compute_weight


def additive(
    correct: Bool[Array, ""], nfe: Count, most: int, compute_weight: float | Scalar
) -> Scalar:
    """The reward of `Additive`, at a weight that may be traced."""
    return correct - compute_weight * nfe / most


Reward = Multiplicative | Additive  # correct, denoiser calls, most calls possible -> reward
