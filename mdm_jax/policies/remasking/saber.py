"""Saber: a threshold that follows what has been revealed, and back-tracking."""

import jax
import jax.numpy as jnp

from mdm_jax.errors import check_range
from mdm_jax.policies.base import PolicyState, confidence, top
from mdm_jax.policies.remasking.block import current_block
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Decision, Observation, RowKey


@pytree_dataclass
class Saber:
    """Reveals every position whose confidence is at least the mean confidence with which the positions of
    the block were revealed (1 at first), and at least the `least` best ones. Of the positions revealed
    before, it then re-masks those whose confidence has dropped most since the call before:
    max(least / 2, k / 8) of them, rounded up, if k were revealed, and fewer than k.

    Only positions whose confidence did drop are re-masked, and the confidence of a revealed position is
    the denoiser's largest probability there: readings of the rule, which is known here from notes on the
    released code. Under exact conditionals only a contradiction lets confidence drop.

    Reference: Saber, arXiv:2510.18165.
    """

    least: int = 2  # positions revealed at a call, if there are as many

    def __post_init__(self) -> None:
        check_range("least", self.least, 1)

    def init(self, length: int) -> PolicyState:
        """The block, the confidences of the call before, and the sum and number of those at reveals."""
        nothing = jnp.zeros(length, jnp.float32)
        return jnp.zeros(length, bool), nothing, jnp.zeros(()), jnp.zeros(())

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        first, eligible = observation.block_step == 0, observation.eligible
        block, before = current_block(state[0], observation), state[1]
        total, count = (jnp.where(first, 0.0, value) for value in state[2:])
        k_reveal, k_remask = jax.random.split(key)
        scores = confidence(observation.logits)
        threshold = jnp.where(count > 0, total / jnp.maximum(count, 1.0), 1.0)
        unmask = eligible & (scores >= threshold) | top(k_reveal, scores, eligible, self.least)
        revealed = jnp.sum(unmask)
        most = jnp.maximum(self.least / 2, revealed / 8)
        most = jnp.minimum(jnp.ceil(most).astype(jnp.int32), revealed - 1)
        drop = before - scores
        fallen = block & ~observation.is_masked & (drop > 0)
        remask = top(k_remask, drop, fallen, most)
        total += jnp.sum(jnp.where(unmask, scores, 0.0))
        return Decision(unmask, remask), (block, scores, total, count + revealed)
