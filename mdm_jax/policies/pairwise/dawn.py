"""DAWN: what is certain, what it induces, and an independent set of the rest."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.errors import check_range
from mdm_jax.policies.base import RevealOnly, confidence, or_best, rank
from mdm_jax.policies.pairwise.greedy import greedy
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Mask, Observation, RowKey


@pytree_dataclass
class Dawn(RevealOnly):
    """Reveals three kinds of positions, or else the best one.

    First, those of confidence >= `threshold`. Second, those of confidence >= `induced` whose dependence
    on a revealed position of confidence >= `threshold` is >= `edge`. Third, of the others with confidence
    >= `induced`, by falling confidence, each that has no such edge, in either direction, with a position
    of the first two kinds or one taken before.

    Positions on which all others depend more than `sink` on average are no evidence, and are left out.

    Reference: DAWN, arXiv:2602.06953, as in its code, without its error of revealing position 0 where
    nothing is left to choose.
    """

    wants_window: ClassVar[bool] = True
    wants_dependence: ClassVar[bool] = True

    threshold: float = 0.9
    induced: float = 0.7  # least confidence of all that is revealed together
    edge: float = 0.07  # dependence above which two positions are joined
    sink: float = 0.01  # mean dependence of all positions on one, above which it is left out

    def __post_init__(self) -> None:
        for name in ("threshold", "induced", "edge", "sink"):
            check_range(name, getattr(self, name))

    def edges(self, dependence: Float[Array, "length length"]) -> Bool[Array, "length length"]:
        """[i, j]: whether i depends on j."""
        counted = jnp.mean(dependence, axis=0) <= self.sink
        off_diagonal = ~jnp.eye(len(dependence), dtype=bool)
        return (dependence >= self.edge) & counted[None, :] & off_diagonal

    def unmask(self, key: RowKey, observation: Observation) -> Mask:
        scores, eligible = confidence(observation.logits), observation.eligible
        edges = self.edges(observation.dependence)
        anchors = ~observation.is_masked & (scores >= self.threshold)
        certain = eligible & (scores >= self.threshold)
        near = jnp.any(edges & anchors, axis=1) & eligible & (scores >= self.induced)
        first, joined = certain | near, edges | edges.T

        def apart(chosen: Mask, position: Int[Array, ""]) -> Bool[Array, ""]:
            return ~jnp.any((chosen | first) & joined[position])

        others = eligible & (scores >= self.induced) & ~first
        k_ranks, k_best = jax.random.split(key)
        chosen = first | greedy(rank(k_ranks, scores, eligible), others, apart)
        return or_best(k_best, chosen, scores, eligible)
