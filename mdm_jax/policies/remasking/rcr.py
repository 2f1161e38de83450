"""Running-confidence re-masking (RCR): tokens stay by the confidence they were revealed with."""

import jax.numpy as jnp

from mdm_jax.diffusion.schedules import Linear, Schedule
from mdm_jax.errors import check_range
from mdm_jax.policies.base import PolicyState, confidence, top
from mdm_jax.policies.count_schedules import still_masked
from mdm_jax.policies.heuristics import steps_per_block
from mdm_jax.policies.remasking.block import current_block, reveal_only
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Decision, Observation, RowKey


@pytree_dataclass
class Rcr:
    """Keeps the positions of highest running confidence, as many as the schedule says.

    The running confidence of a revealed position is the one it was revealed with, that of a masked
    one its present confidence. Re-masks only in the current block (the port in ParallelBench also
    does in earlier ones). Reference: running-confidence re-masking of MDPO.
    """

    steps: int = 8  # denoiser calls in all
    schedule: Schedule = static(Linear())  # share that is masked over time

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)

    def init(self, length: int) -> PolicyState:
        """The current block, and the running confidence."""
        return jnp.zeros(length, bool), jnp.zeros(length, jnp.float32)

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        block, running = current_block(state[0], observation), state[1]
        running = jnp.where(observation.is_masked, confidence(observation.logits), running)
        masked = still_masked(
            self.schedule,
            observation.block_masks,
            observation.block_step,
            steps_per_block(self.steps, observation),
        )
        chosen = top(key, running, block, jnp.sum(block) - masked)
        return reveal_only(chosen, block, observation), (block, running)
