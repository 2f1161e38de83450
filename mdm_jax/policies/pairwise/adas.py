"""ADAS: confidence, discounted by dependence on what is revealed in the same call."""

from typing import ClassVar

import jax
import jax.numpy as jnp

from mdm_jax.errors import check_range
from mdm_jax.policies.base import RevealOnly, best, confidence
from mdm_jax.policies.heuristics import (
    ConfidenceThreshold,
    EntropyBound,
    Factor,
    TopConfidence,
)
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Count, Mask, Observation, RowKey

Base = TopConfidence | ConfidenceThreshold | Factor | EntropyBound


@pytree_dataclass
class Adas(RevealOnly):
    """As many positions as `base` reveals, chosen one by one: the next is the one of largest

      c_i - alpha sum_{s chosen} A_is (1 - c_s),

    c being confidence and A how much i depends on s. With alpha 0 these are the most confident ones.

    Reference: ADAS, arXiv:2606.10829 (alpha 40 on the last layer's attention there; here the attention
    is the mean of the late layers, or exact dependence, for which smaller values suit).
    """

    wants_dependence: ClassVar[bool] = True

    base: Base = TopConfidence(8)  # how many
    alpha: float = 40.0  # of the discount

    def __post_init__(self) -> None:
        check_range("alpha", self.alpha, 0)

    def unmask(self, key: RowKey, observation: Observation) -> Mask:
        k_base, k_ties = jax.random.split(key)
        count = jnp.sum(self.base.unmask(k_base, observation))
        scores, eligible = confidence(observation.logits), observation.eligible

        def choose(number: Count, chosen: Mask) -> Mask:
            unsure = jnp.where(chosen, 1.0 - scores, 0.0)
            worth = scores - self.alpha * (observation.dependence @ unsure)
            key = jax.random.fold_in(k_ties, number)
            return chosen | (best(key, worth, eligible & ~chosen) & (number < count))

        return jax.lax.fori_loop(0, len(eligible), choose, jnp.zeros_like(eligible))
