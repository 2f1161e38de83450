"""WINO: reveal generously, look again, take back what does not hold."""

from typing import ClassVar

import jax
import jax.numpy as jnp

from mdm_jax.policies.base import PolicyState, check_knob, confidence, or_best, top
from mdm_jax.policies.remasking.block import current_block
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Count, Decision, Mask, Observation, RowKey

FRESH = 30  # tokens that count as revealed before a block's first call
LEAST, MOST, SHARE = 5, 20, 0.7  # of the masked positions, what one call reveals at most


@pytree_dataclass
class Wino:
    """Every position whose confidence exceeds `threshold`, at most 70 % of the masked ones (but 5, and
    no more than 20), at least the best; and where several were revealed, those revealed before are
    re-masked whose probability, were they masked, is below `threshold_back`.

    No more are re-masked than would undo the call before: then only the least probable, one less than
    it revealed. Needs a denoiser that is a `DenoiseVerifier`.
    Reference: WINO (Wide-In, Narrow-Out), ICLR 2026.
    """

    wants_verifier: ClassVar[bool] = True

    threshold: float = 0.6  # confidence above which a position is revealed
    threshold_back: float = 0.9  # probability below which a token is taken back

    def __post_init__(self) -> None:
        check_knob("threshold_back", self.threshold_back, 0)

    def init(self, length: int) -> PolicyState:
        """The current block, and how many positions the call before revealed."""
        return jnp.zeros(length, bool), jnp.full((), FRESH)

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        block = current_block(state[0], observation)
        before = jnp.where(observation.block_step == 0, FRESH, state[1])
        k_reveal, k_remask = jax.random.split(key)
        unmask = self._accepted(k_reveal, observation)
        accepted = jnp.sum(unmask)
        doubted = self._doubted(k_remask, block & ~observation.is_masked, before, observation)
        return Decision(unmask, doubted & (accepted > 1)), (block, accepted)

    def _accepted(self, key: RowKey, observation: Observation) -> Mask:
        scores, eligible = confidence(observation.logits), observation.eligible
        k_most, k_best = jax.random.split(key)
        most = jnp.clip(jnp.floor(SHARE * jnp.sum(eligible)), LEAST, MOST)
        sure = eligible & (scores > self.threshold)
        sure &= top(k_most, scores, eligible, most.astype(jnp.int32))
        return or_best(k_best, sure, scores, eligible)

    def _doubted(self, key: RowKey, there: Mask, before: Count, observation: Observation) -> Mask:
        doubted = there & (observation.verifier_prob < self.threshold_back)
        fewer = top(key, -observation.verifier_prob, there, before - 1)
        return jnp.where(jnp.sum(doubted) >= before, fewer, doubted)
