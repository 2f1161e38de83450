"""Dream's confidence threshold: a schedule limits the candidates, a threshold chooses among them."""

import jax

from mdm_jax.diffusion.schedules import Linear
from mdm_jax.policies.base import RevealOnly, check_knob, confidence, or_best, top
from mdm_jax.policies.count_schedules import AlphaCounts, CountRule
from mdm_jax.policies.heuristics import scheduled_count
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Mask, Observation, RowKey


@pytree_dataclass
class ThresholdQuota(RevealOnly):
    """Of the positions that the schedule would have revealed by now the most confident are
    candidates; those with confidence >= threshold are revealed, and always the best one.

    What was rejected is a candidate again, beside the new ones; a `budget` above `steps` gives what
    is left at the end further calls.
    Reference: Fast-dLLM's `confidence_threshold` for Dream without blocks, arXiv:2505.22618.
    """

    steps: int = 8  # denoiser calls after which all are candidates
    threshold: float = 0.9  # least confidence of what is revealed together
    schedule: CountRule = static(AlphaCounts(Linear()))  # how many are candidates over time

    def __post_init__(self) -> None:
        check_knob("steps", self.steps, 1)

    def unmask(self, key: RowKey, observation: Observation) -> Mask:
        k_candidates, k_best = jax.random.split(key)
        scores, eligible = confidence(observation.logits), observation.eligible
        count = scheduled_count(self.schedule, self.steps, observation)
        candidates = top(k_candidates, scores, eligible, count)
        return or_best(k_best, candidates & (scores >= self.threshold), scores, candidates)
