"""A random order whose counts are random too."""

import jax
import jax.numpy as jnp

from mdm_jax.errors import check_range
from mdm_jax.policies.base import RevealOnly, top
from mdm_jax.policies.heuristics import steps_per_block
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Mask, Observation, RowKey


@pytree_dataclass
class RandomShift(RevealOnly):
    """Random positions, s = ceil(masked / steps) at each call, but at the first a uniform number of 1..s.

    Every place of the order is then equally often the first, second, ... of its call, so that whatever
    the data are the expected excess nats are at most (s - 1) (h(0) - h(L - 1)) / 2 for the profile h of
    `orders.counts`: half of (s - 1) / L times total plus dual total correlation. No fixed counts of that
    size have such a bound. Takes at most one call more than `steps`.

    Reference: distribution-free random counts, arXiv:2602.20126, of which only the abstract was read:
    this is a simple rule with a bound of that kind, and may not be theirs.
    """

    steps: int = 8  # denoiser calls in all, or one more

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)

    def unmask(self, key: RowKey, observation: Observation) -> Mask:
        k_count, k_noise, k_ties = jax.random.split(key, 3)
        steps = steps_per_block(self.steps, observation)
        most = jnp.maximum(-(-observation.block_masks // steps), 1)
        first = jax.random.randint(k_count, (), 1, most + 1)
        count = jnp.where(observation.block_step == 0, first, most)
        noise = jax.random.uniform(k_noise, observation.eligible.shape, jnp.float32)
        return top(k_ties, noise, observation.eligible, count)
