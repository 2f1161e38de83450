"""Hierarchical decoding: one position of every gap, and what is certain."""

import jax
import jax.numpy as jnp

from mdm_jax.errors import check_range
from mdm_jax.policies.base import RevealOnly, confidence, rank
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Mask, Observation, RowKey


@pytree_dataclass
class Hierarchical(RevealOnly):
    """The most confident position of every run of eligible ones, where its confidence > run_threshold;
    all positions with confidence > threshold; and always the best one.

    Like `Bisection` it cuts gaps in parts that depend less on each other, at the place that is surest
    instead of the middle.

    Reference: hierarchical decoding in the code of dInfer, arXiv:2510.08666.
    """

    threshold: float = 0.9  # above it a position is revealed wherever it is
    run_threshold: float = 0.4  # least confidence of the best position of a run

    def __post_init__(self) -> None:
        check_range("threshold", self.threshold)
        check_range("run_threshold", self.run_threshold)

    def unmask(self, key: RowKey, observation: Observation) -> Mask:
        scores, eligible = confidence(observation.logits), observation.eligible
        ranks = rank(key, scores, eligible)
        run = jnp.cumsum(~eligible)  # the same number in all of a run
        best = jax.ops.segment_min(jnp.where(eligible, ranks, len(ranks)), run, len(ranks) + 1)
        best_of_run = (ranks == best[run]) & (scores > self.run_threshold)
        return eligible & (best_of_run | (scores > self.threshold) | (ranks == 0))
