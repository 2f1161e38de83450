"""ReMDM for LLaDA: extra calls that re-mask a few tokens when a block is nearly complete."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from mdm_jax.errors import check_range
from mdm_jax.policies.base import PolicyState, confidence, top
from mdm_jax.policies.count_schedules import CountRule, LinearCounts
from mdm_jax.policies.heuristics import steps_per_block
from mdm_jax.policies.remasking.block import current_block
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Count, Decision, Observation, RowKey


@pytree_dataclass
class RemdmRounds:
    """Most confident first; after 7/8 of a block's steps come `rounds` extra calls, each of which
    re-masks the `number` tokens that were revealed with least confidence and reveals as many.

    Needs a budget of `steps` + `rounds` calls for every block. Re-masking happens at the end of the
    previous call, so a token can be revealed and re-masked in the same call; it is then never written.

    Reference: ReMDM-LLaDA, after arXiv:2503.00307: its `remdm_steps` and `remdm_number`.
    """

    steps: int = 8  # denoiser calls without the extra ones
    rounds: int = 2  # extra calls for each block
    number: int = 1  # tokens that each extra call replaces
    schedule: CountRule = static(
        LinearCounts()
    )  # how many positions each of the other calls reveals

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)
        check_range("rounds", self.rounds, 0)
        check_range("number", self.number, 1)

    def init(self, length: int) -> PolicyState:
        """The current block, and the confidence that each position was revealed with."""
        return jnp.zeros(length, bool), jnp.zeros(length, jnp.float32)

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        block, revealed_with = current_block(state[0], observation), state[1]
        k_reveal, k_remask = jax.random.split(key)
        scores = confidence(observation.logits)
        unmask = top(k_reveal, scores, observation.eligible, self._count(observation))
        revealed_with = jnp.where(unmask, scores, revealed_with)
        revealed = block & (unmask | ~observation.is_masked)
        remask = top(k_remask, -revealed_with, revealed, self.number)
        remask &= self._in_round(observation.block_step + 1, observation)
        return Decision(unmask & ~remask, remask & ~unmask), (block, revealed_with)

    def _count(self, observation: Observation) -> Count:
        """Positions to reveal now."""
        step, masks = observation.block_step, observation.block_masks
        step = jnp.where(step < self._start(observation), step, step - self.rounds)
        steps = steps_per_block(self.steps, observation)
        count = self.schedule.count(jnp.sum(observation.eligible), masks, step, steps)
        return jnp.where(self._in_round(observation.block_step, observation), self.number, count)

    def _start(self, observation: Observation) -> Count:
        """The step of the block at which the extra calls begin."""
        masks = observation.block_masks
        start = jnp.maximum(jnp.minimum(7 * masks // 8, masks - 1), 1)
        return jnp.minimum(start, steps_per_block(self.steps, observation))

    def _in_round(self, step: Count, observation: Observation) -> Bool[Array, ""]:
        """Whether that step is an extra call."""
        start = self._start(observation)
        return (step >= start) & (step < start + self.rounds)
