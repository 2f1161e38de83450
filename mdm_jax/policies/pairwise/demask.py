"""DEMASK: as many positions as an allowance of dependence admits."""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from mdm_jax.errors import check_range
from mdm_jax.policies.base import RevealOnly, confidence, rank
from mdm_jax.policies.pairwise.greedy import greedy
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Mask, Observation, RowKey


@pytree_dataclass
class Demask(RevealOnly):
    """Goes through the positions by falling confidence and takes each whose dependence on those taken
    before fits into what is left of `allowance`.

    With D_ij the total variation between p(x_i) and p(x_i | x_j), as an oracle gives it, the sum bounds
    the total variation between the parallel and the joint draw where dependence is sub-additive. The
    paper predicts D by a head on hidden states that it trains; here D is what the denoiser says: exact,
    or its attention.

    Reference: DEMASK, arXiv:2604.02560. That a position that does not fit is passed over instead of
    ending the set is a reading of the rule.
    """

    wants_dependence: ClassVar[bool] = True

    allowance: float = 0.1  # sum of dependences in one set; larger reveals more

    def __post_init__(self) -> None:
        check_range("allowance", self.allowance, 0)

    def unmask(self, key: RowKey, observation: Observation) -> Mask:
        ranks = rank(key, confidence(observation.logits), observation.eligible)
        pairs = jnp.maximum(observation.dependence, observation.dependence.T)

        def fits(chosen: Mask, position: Int[Array, ""]) -> Bool[Array, ""]:
            both = chosen.at[position].set(True)
            inside = jnp.sum(jnp.where(both[:, None] & both, jnp.triu(pairs, 1), 0.0))
            return inside <= self.allowance

        return greedy(ranks, observation.eligible, fits)
