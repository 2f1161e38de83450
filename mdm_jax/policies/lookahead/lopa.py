"""LoPA: branches that each reveal one position more, and the one with the most confident future."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mdm_jax.errors import check_range
from mdm_jax.policies.base import PolicyState, confidence, rank
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Decision, Observation, RowKey


@pytree_dataclass
class Lopa:
    """The anchor is what `ConfidenceThreshold` reveals. Each branch adds one further position, the next
    most confident ones; the denoiser is called on all branches and the anchor, and the best is taken.

    The score of a branch is the mean confidence afterwards, over the less confident half of what stays
    masked, times the confidence of the position it adds.

    Calls are counted as an implementation needs them that keeps the outputs of the branch it takes: that
    branch's call is the next step's. Its authors count a batch of branches as one forward pass.

    Reference: LoPA, arXiv:2512.16229, as in its code (the share of masks is `branch_topp` there).
    """

    wants_lookahead: ClassVar[bool] = True

    threshold: float = 0.9  # of the anchor
    branches: int = static(4)  # beside the anchor
    share: float = 0.5  # of what stays masked, the least confident, that a branch is scored by

    def __post_init__(self) -> None:
        check_range("threshold", self.threshold)
        check_range("branches", self.branches, 1)
        check_range("share", self.share, above=0, high=1)

    def init(self, length: int) -> PolicyState:
        return ()

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        scores, eligible = confidence(observation.logits), observation.eligible
        ranks = rank(key, scores, eligible)
        anchor = eligible & ((scores >= self.threshold) | (ranks == 0))
        first = jnp.sum(anchor)  # the rank of the next most confident position
        added = ranks == first + jnp.arange(-1, self.branches)[:, None]
        added = (added & eligible).at[0].set(False)
        reveals = anchor | added
        exists = jnp.any(added, axis=1).at[0].set(True)
        after = jax.vmap(confidence)(observation.lookahead(reveals))
        worth = self._future(after, eligible & ~reveals)
        worth *= jnp.sum(jnp.where(added, scores, 0.0), axis=1).at[0].set(1.0)
        best = jnp.argmax(jnp.where(exists, worth, -jnp.inf))
        unmask = reveals[best]
        done = jnp.all(unmask == eligible)
        calls = jnp.where(first < jnp.sum(eligible), jnp.sum(exists) - 1 + done, 0)
        return Decision(unmask, jnp.zeros_like(unmask), extra_calls=calls.astype(jnp.int32)), state

    def _future(
        self, scores: Float[Array, "branches length"], left: Bool[Array, "branches length"]
    ) -> Float[Array, " branches"]:
        """Mean of the lowest scores among what is left; 1 where nothing is."""
        count = jnp.sum(left, axis=1)
        most = jnp.ceil(self.share * count)
        ordered = jnp.sort(jnp.where(left, scores, jnp.inf), axis=1)
        counted = jnp.arange(scores.shape[1]) < most[:, None]
        total = jnp.sum(jnp.where(counted, ordered, 0.0), axis=1)
        return jnp.where(count > 0, total / jnp.maximum(most, 1), 1.0)
