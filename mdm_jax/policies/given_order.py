"""A given order: at which step each position is revealed, decided before anything is generated."""

import jax.numpy as jnp
from jaxtyping import Array, Int

from mdm_jax.policies.base import RevealOnly
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Mask, Observation, RowKey


@pytree_dataclass
class GivenOrder(RevealOnly):
    """The eligible positions of the earliest step.

    Steps at which nothing is left to reveal cost no call.
    """

    order: Int[Array, " length"]  # the step of each position

    def unmask(self, key: RowKey, observation: Observation) -> Mask:
        eligible = observation.eligible
        later = jnp.iinfo(jnp.int32).max
        return eligible & (self.order == jnp.min(jnp.where(eligible, self.order, later)))
