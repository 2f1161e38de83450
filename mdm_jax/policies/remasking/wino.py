"""WINO: reveal many positions, verify the revealed tokens, re-mask those that fail."""

from typing import ClassVar

import jax
import jax.numpy as jnp

from mdm_jax.errors import check_range
from mdm_jax.policies.base import PolicyState, confidence, or_best, top
from mdm_jax.policies.remasking.block import current_block
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Count, Decision, Mask, Observation, RowKey

FRESH = 30  # revealed tokens assumed for the call before a block's first
LEAST, MOST, SHARE = 5, 20, 0.7  # one call reveals at most SHARE of the masked, within LEAST..MOST


@pytree_dataclass
class Wino:
    """Reveals every position with confidence > `threshold`, at least the best one and at most 70 % of
    the masked ones (that limit not below 5 or above 20). If it reveals more than one, it re-masks the
    tokens revealed earlier in the block whose `verifier_prob` is below `threshold_back`.

    If those are as many as the previous call revealed, or more, only the least probable are re-masked,
    one fewer than that. Needs a `DenoiseVerifier`.

    Reference: WINO (Wide-In, Narrow-Out), ICLR 2026.
    """

    wants_verifier: ClassVar[bool] = True

    threshold: float = 0.6  # confidence above which a position is revealed
    threshold_back: float = 0.9  # probability below which a token is re-masked

    def __post_init__(self) -> None:
        check_range("threshold", self.threshold)
        check_range("threshold_back", self.threshold_back, 0)

    def init(self, length: int) -> PolicyState:
        """The current block, and how many positions the previous call revealed."""
        return jnp.zeros(length, bool), jnp.full((), FRESH, jnp.int32)

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        block = current_block(state[0], observation)
        before = jnp.where(observation.block_step == 0, FRESH, state[1])
        k_reveal, k_remask = jax.random.split(key)
        unmask = self._accepted(k_reveal, observation)
        accepted = jnp.sum(unmask, dtype=jnp.int32)
        rejected = self._rejected(k_remask, block & ~observation.is_masked, before, observation)
        return Decision(unmask, rejected & (accepted > 1)), (block, accepted)

    def _accepted(self, key: RowKey, observation: Observation) -> Mask:
        scores, eligible = confidence(observation.logits), observation.eligible
        k_most, k_best = jax.random.split(key)
        most = jnp.clip(jnp.floor(SHARE * jnp.sum(eligible)), LEAST, MOST)
        chosen = eligible & (scores > self.threshold)
        chosen &= top(k_most, scores, eligible, most.astype(jnp.int32))
        return or_best(k_best, chosen, scores, eligible)

    def _rejected(
        self, key: RowKey, revealed: Mask, before: Count, observation: Observation
    ) -> Mask:
        """The revealed positions to re-mask; `before`: what the previous call revealed."""
        rejected = revealed & (observation.verifier_prob < self.threshold_back)
        fewer = top(key, -observation.verifier_prob, revealed, before - 1)
        return jnp.where(jnp.sum(rejected) >= before, fewer, rejected)
