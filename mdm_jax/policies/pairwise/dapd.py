"""DAPD: an independent set of the graph of dependences, hubs first."""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from mdm_jax.errors import check_range
from mdm_jax.policies.base import RevealOnly, confidence, rank
from mdm_jax.policies.pairwise.greedy import greedy
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Mask, Observation, RowKey


@pytree_dataclass
class Dapd(RevealOnly):
    """Positions i and j are joined where (A_ij + A_ji) / 2 > `edge`. Goes through the eligible ones by
    falling (sum_j s_ij) c_i, s being that mean, and takes each that is joined to none taken before. Once
    fewer than half of the block are masked, all positions with confidence > `threshold` as well.

    Reference: DAPD, arXiv:2603.12996, as reported second-hand: there `edge` changes over the steps by a
    rule that is not known here, and the sum may be over other positions than the eligible ones.
    """

    wants_dependence: ClassVar[bool] = True

    edge: float = 0.05  # dependence above which two positions are joined; larger reveals more
    threshold: float = 0.9  # of confidence, in the second half of a block

    def __post_init__(self) -> None:
        check_range("edge", self.edge, 0)
        check_range("threshold", self.threshold)

    def unmask(self, key: RowKey, observation: Observation) -> Mask:
        scores, eligible = confidence(observation.logits), observation.eligible
        mean = (observation.dependence + observation.dependence.T) / 2
        mean = jnp.where(jnp.eye(len(mean), dtype=bool), 0.0, mean)
        degree = jnp.sum(jnp.where(eligible, mean, 0.0), axis=1)
        ranks = rank(key, degree * scores, eligible)

        def apart(chosen: Mask, position: Int[Array, ""]) -> Bool[Array, ""]:
            return ~jnp.any(chosen & (mean[position] > self.edge))

        late = 2 * jnp.sum(eligible) < observation.block_masks
        certain = eligible & (scores > self.threshold) & late
        return greedy(ranks, eligible, apart) | certain
