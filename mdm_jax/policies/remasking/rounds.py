"""ReMDM for LLaDA: rounds that re-mask a few tokens when a block is nearly done."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from mdm_jax.policies.base import PolicyState, check_knob, confidence, top
from mdm_jax.policies.count_schedules import CountRule, LinearCounts
from mdm_jax.policies.heuristics import steps_per_block
from mdm_jax.policies.remasking.block import current_block
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Count, Decision, Observation, RowKey


@pytree_dataclass
class RemdmRounds:
    """Most confident first; when 7/8 of a block's steps are done, `rounds` extra calls: each re-masks
    the `number` tokens that were revealed with least confidence and reveals as many.

    Needs a budget of `steps` + `rounds` calls for every block. Re-masking belongs to the call
    before, so a token may be revealed and re-masked at once, and then was never shown.
    Reference: ReMDM-LLaDA, after arXiv:2503.00307, where they are `remdm_steps` and `remdm_number`.
    """

    steps: int = 8  # denoiser calls in all, the extra ones apart
    rounds: int = 2  # extra calls for each block
    number: int = 1  # tokens that each of them replaces
    schedule: CountRule = static(LinearCounts())  # how the other calls share the positions

    def __post_init__(self) -> None:
        check_knob("steps", self.steps, 1)
        check_knob("rounds", self.rounds, 0)
        check_knob("number", self.number, 1)

    def init(self, length: int) -> PolicyState:
        return jnp.zeros(length, bool), jnp.zeros(length)  # the block, confidences when revealed

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        block, shown = current_block(state[0], observation), state[1]
        k_reveal, k_remask = jax.random.split(key)
        scores = confidence(observation.logits)
        unmask = top(k_reveal, scores, observation.eligible, self._count(observation))
        shown = jnp.where(unmask, scores, shown)
        there = block & (unmask | ~observation.is_masked)
        remask = top(k_remask, -shown, there, self.number)
        remask &= self._in_round(observation.block_step + 1, observation)
        return Decision(unmask & ~remask, remask & ~unmask), (block, shown)

    def _count(self, observation: Observation) -> Count:
        """Positions to reveal now."""
        step, masks = observation.block_step, observation.block_masks
        step = jnp.where(step < self._start(observation), step, step - self.rounds)
        steps = steps_per_block(self.steps, observation)
        count = self.schedule.count(jnp.sum(observation.eligible), masks, step, steps)
        return jnp.where(self._in_round(observation.block_step, observation), self.number, count)

    def _start(self, observation: Observation) -> Count:
        """The step of the block at which the rounds begin."""
        masks = observation.block_masks
        start = jnp.maximum(jnp.minimum(7 * masks // 8, masks - 1), 1)
        return jnp.minimum(start, steps_per_block(self.steps, observation))

    def _in_round(self, step: Count, observation: Observation) -> Bool[Array, ""]:
        """Whether that step is one of the extra ones."""
        start = self._start(observation)
        return (step >= start) & (step < start + self.rounds)
