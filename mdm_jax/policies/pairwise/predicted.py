"""Pairwise rules on dependences that a head predicts from the denoiser's hidden states."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdm_jax.policies.base import RevealOnly
from mdm_jax.policies.networks.pair_network import PairNetwork
from mdm_jax.policies.pairwise.adas import Adas
from mdm_jax.policies.pairwise.dapd import Dapd
from mdm_jax.policies.pairwise.demask import Demask
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Mask, Observation, RowKey

Rule = Demask | Dapd | Adas


@pytree_dataclass
class PredictedPairs(RevealOnly):
    """The rule's decision with predicted dependences in the place of the denoiser's.

    No further denoiser call: the head reads what the call has computed anyway. Learned by
    `experiments.learn_pairs`. (DAWN compares with revealed positions, which the head does not learn of.)

    Reference: DEMASK, arXiv:2604.02560, where the rule is `Demask`.
    """

    wants_hidden: ClassVar[bool] = True

    network: PairNetwork = static(repr=False)
    params: Any
    rule: Rule = Demask()

    def dependence(self, hidden: Float[Array, "length features"]) -> Float[Array, "length length"]:
        """Predicted dependences, in 0..1, none of a position on itself."""
        found = jax.nn.sigmoid(self.network.apply({"params": self.params}, hidden))
        return jnp.where(jnp.eye(len(found), dtype=bool), 0.0, found)

    def unmask(self, key: RowKey, observation: Observation) -> Mask:
        found = self.dependence(observation.hidden)
        return self.rule.unmask(key, observation._replace(dependence=found))
