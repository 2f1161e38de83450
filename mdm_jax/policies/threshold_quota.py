"""Dream with a confidence threshold, applied to as many candidates as a schedule allows."""

import jax

from mdm_jax.diffusion.schedules import Linear
from mdm_jax.errors import check_range
from mdm_jax.policies.base import RevealOnly, confidence, or_best, top
from mdm_jax.policies.count_schedules import AlphaCounts, CountRule
from mdm_jax.policies.heuristics import scheduled_count
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Mask, Observation, RowKey


@pytree_dataclass
class ThresholdQuota(RevealOnly):
    """Candidates are the most confident positions, as many as it takes to catch up with the schedule.
    Those with confidence >= threshold are revealed, and always the best one.

    A rejected candidate is one again at the next step; with a `budget` above `steps`, positions that
    are left after `steps` calls get further ones.

    Reference: Fast-dLLM's `confidence_threshold` for Dream without blocks, arXiv:2505.22618.
    """

    steps: int = 8  # denoiser calls after which all positions are candidates
    threshold: float = 0.9  # least confidence of what is revealed together
    schedule: CountRule = static(
        AlphaCounts(Linear())
    )  # how many positions are candidates at each step

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)
        check_range("threshold", self.threshold)

    def unmask(self, key: RowKey, observation: Observation) -> Mask:
        k_candidates, k_best = jax.random.split(key)
        scores, eligible = confidence(observation.logits), observation.eligible
        count = scheduled_count(self.schedule, self.steps, observation)
        candidates = top(k_candidates, scores, eligible, count)
        return or_best(k_best, candidates & (scores >= self.threshold), scores, candidates)
