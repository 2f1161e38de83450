"""Path planning (P2): every step decides for all positions which are revealed."""

import jax.numpy as jnp

from mdm_jax.diffusion.schedules import Linear, Schedule
from mdm_jax.errors import check_range
from mdm_jax.policies.base import PolicyState, confidence, log_prob, top
from mdm_jax.policies.count_schedules import CountRule, LinearCounts, still_masked
from mdm_jax.policies.heuristics import scheduled_count, steps_per_block
from mdm_jax.policies.remasking.block import current_block, reveal_only
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Decision, Observation, RowKey


@pytree_dataclass
class P2:
    """Keeps the positions of highest score, as many as the schedule says, and re-masks the rest.

    The score of a position is the log-probability of the token it would take now, multiplied by eta
    if the position is revealed: with eta < 1 revealed positions tend to stay, with 0 they always do,
    with eta > 1 they are more likely to be re-masked. Positions that stay keep their token.

    Reference: arXiv:2502.03540, self-planning.
    """

    steps: int = 8  # denoiser calls in all
    eta: float = 1.0  # larger re-masks more
    schedule: Schedule = static(Linear())  # share that is masked over time

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)
        check_range("eta", self.eta, 0)

    def init(self, length: int) -> PolicyState:
        return jnp.zeros(length, bool)  # the current block

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        block = current_block(state, observation)
        log_probs = log_prob(observation.logits, observation.proposal)
        # below 0 at masked positions: a revealed token of probability 1 wins the tie
        masked_scores = jnp.minimum(log_probs, -jnp.finfo(jnp.float32).tiny)
        scores = jnp.where(observation.is_masked, masked_scores, self.eta * log_probs)
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
    """In the order of the confidences at the first call of a block, a scheduled number at each step.

    Never re-masks. The released code spends a separate call on the order; here the first call also
    reveals positions. Reference: P2+ in the code of arXiv:2502.03540.
    """

    steps: int = 8  # denoiser calls in all
    schedule: CountRule = static(LinearCounts())  # how many positions each reveals

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)

    def init(self, length: int) -> PolicyState:
        return jnp.zeros(length, jnp.float32)  # the confidences when the block was entered

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        first = observation.block_step == 0
        scores = jnp.where(first, confidence(observation.logits), state)
        count = scheduled_count(self.schedule, self.steps, observation)
        unmask = top(key, scores, observation.eligible, count)
        return Decision(unmask, jnp.zeros_like(unmask)), scores
