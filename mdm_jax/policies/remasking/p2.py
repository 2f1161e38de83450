"""Path planning (P2): every step decides anew which tokens stay."""

import jax.numpy as jnp

from mdm_jax.diffusion.schedules import Linear, Schedule
from mdm_jax.policies.base import PolicyState, check_knob, confidence, log_prob, top
from mdm_jax.policies.count_schedules import CountRule, LinearCounts, still_masked
from mdm_jax.policies.heuristics import scheduled_count, steps_per_block
from mdm_jax.policies.remasking.block import current_block, reveal_only
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Decision, Observation, RowKey


@pytree_dataclass
class P2:
    """Keeps the tokens of highest log-probability, as many as the schedule says, re-masks the rest.

    Each position is judged by the log-probability of the token it would take now, which at revealed
    positions is multiplied by eta: below 1 what is revealed tends to stay, at 0 always, above 1 it
    is more likely to be re-masked. What stays keeps its token.
    Reference: arXiv:2502.03540, self-planning.
    """

    steps: int = 8  # denoiser calls in all
    eta: float = 1.0  # how readily revealed tokens are re-masked
    schedule: Schedule = static(Linear())  # share that is masked over time

    def __post_init__(self) -> None:
        check_knob("steps", self.steps, 1)
        check_knob("eta", self.eta, 0)

    def init(self, length: int) -> PolicyState:
        return jnp.zeros(length, bool)  # the current block

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        block = current_block(state, observation)
        sureness = log_prob(observation.logits, observation.proposal)
        # a token that is there already wins a tie with one that is not
        fresh = jnp.minimum(sureness, -jnp.finfo(jnp.float32).tiny)
        scores = jnp.where(observation.is_masked, fresh, self.eta * sureness)
        masked = still_masked(
            self.schedule,
            observation.block_masks,
            observation.block_step,
            steps_per_block(self.steps, observation),
        )
        chosen = top(key, scores, block, jnp.sum(block) - masked)
        return reveal_only(chosen, block, observation), block


@pytree_dataclass
class P2Plus:
    """The order of the confidences at the first call, a scheduled number of positions at each step.

    Never re-masks. The released code spends a call of its own on the order; here the same call
    reveals the first positions. Reference: P2+ of arXiv:2502.03540's code.
    """

    steps: int = 8  # denoiser calls in all
    schedule: CountRule = static(LinearCounts())  # how they share the positions

    def __post_init__(self) -> None:
        check_knob("steps", self.steps, 1)

    def init(self, length: int) -> PolicyState:
        return jnp.zeros(length)  # the confidences when the block was entered

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        first = observation.block_step == 0
        scores = jnp.where(first, confidence(observation.logits), state)
        count = scheduled_count(self.schedule, self.steps, observation)
        unmask = top(key, scores, observation.eligible, count)
        return Decision(unmask, jnp.zeros_like(unmask)), scores
