"""Each modality of a canvas revealed in its own number of calls, on its own schedule."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mdm_jax.errors import MdmError, check_range
from mdm_jax.policies.base import PolicyState, or_best, top
from mdm_jax.policies.count_schedules import CountRule
from mdm_jax.policies.heuristics import Scheduled
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Count, Decision, Mask, Observation, RowKey

PerModalityCounts = Int[Array, " modalities"]


@pytree_dataclass
class PerModality:
    """In every modality the positions of highest score, as many as its own schedule says.

    Modality m starts at call `starts[m]` and takes `steps[m]` calls; calls are counted from the earliest
    start of the modalities that are masked at all. A call at which none has anything to reveal
    reveals the best position of any. With blocks, each gets its share of the steps and starts anew.
    """

    base: Scheduled  # whose score; its steps and schedule do not count
    modality: Int[Array, " length"]  # the number of each position's modality
    steps: tuple[int, ...]  # denoiser calls of each modality
    starts: tuple[int, ...]  # the call at which each starts
    schedules: tuple[CountRule, ...] = static()  # how many positions each call reveals

    def __post_init__(self) -> None:
        if not len(self.steps) == len(self.starts) == len(self.schedules):
            raise MdmError("steps, starts and schedules must be one for each modality")
        for count, start in zip(self.steps, self.starts, strict=True):
            check_range("steps", count, 1)
            check_range("starts", start, 0)

    def init(self, length: int) -> PolicyState:
        """How many positions of each modality were masked when the block was entered."""
        return jnp.zeros(len(self.schedules), jnp.int32)

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        k_score, k_best, *k_ties = jax.random.split(key, 2 + len(self.schedules))
        eligible = [observation.eligible & self._is(m) for m in range(len(self.schedules))]
        left = jnp.stack([jnp.sum(each, dtype=jnp.int32) for each in eligible])
        total = jnp.where(observation.block_step == 0, left, state)
        scores = self.base.score(k_score, observation)
        chosen = jnp.zeros_like(observation.eligible)
        for k_tie, each, count in zip(
            k_ties, eligible, self._counts(left, total, observation), strict=True
        ):
            chosen |= top(k_tie, scores, each, count)
        unmask = or_best(k_best, chosen, scores, observation.eligible)
        return Decision(unmask, jnp.zeros_like(unmask)), total

    def _is(self, modality: int) -> Mask:
        return self.modality == modality

    def _counts(
        self, left: PerModalityCounts, total: PerModalityCounts, observation: Observation
    ) -> list[Count]:
        """How many positions of each modality to reveal now."""
        starts = jnp.asarray(self.starts, jnp.int32)
        first = jnp.min(jnp.where(total > 0, starts, jnp.iinfo(jnp.int32).max))
        since = observation.block_step - starts + jnp.minimum(first, jnp.max(starts))
        blocks, found = jnp.maximum(observation.num_blocks, 1), []
        for m, schedule in enumerate(self.schedules):
            steps = jnp.maximum(jnp.asarray(self.steps[m], jnp.int32) // blocks, 1)
            count = schedule.count(left[m], total[m], jnp.maximum(since[m], 0), steps)
            found.append(jnp.where(since[m] >= 0, count, 0))
        return found
