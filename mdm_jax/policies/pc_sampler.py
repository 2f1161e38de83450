"""PC-Sampler: confidence corrected for token frequency and position."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mdm_jax.errors import check_range
from mdm_jax.policies.base import Scores, confidence
from mdm_jax.policies.count_schedules import CountRule, LinearCounts
from mdm_jax.policies.heuristics import Scheduled
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Observation, RowKey


@pytree_dataclass
class PcSampler(Scheduled):
    """Highest exp(-decay k) min(-c log f(token), ceiling) first: k the position, c its confidence, f
    the frequency of the token it would take.

    Reference: arXiv:2508.13021, where decay is lambda, ceiling alpha and f background frequencies.
    """

    frequencies: Float[Array, " vocab"]  # share of each token in a corpus
    steps: int = 8  # denoiser calls in all
    schedule: CountRule = static(LinearCounts())  # how many positions each reveals
    decay: float = 0.25  # of the preference, from one position to the next
    ceiling: float = 10.0  # largest corrected confidence, nats

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)
        check_range("decay", self.decay, 0)
        check_range("ceiling", self.ceiling, 0)

    def score(self, key: RowKey, observation: Observation) -> Scores:
        rarity = -jnp.log(self.frequencies[observation.proposal] + 1e-9)
        corrected = jnp.minimum(confidence(observation.logits) * rarity, self.ceiling)
        positions = jnp.arange(corrected.shape[0])
        # in logarithms: the factors of late positions would underflow to ties
        return jnp.log(jnp.maximum(corrected, 1e-30)) - self.decay * positions
