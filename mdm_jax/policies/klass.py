"""KLASS: reveal positions of high confidence whose distribution has stopped changing."""

import jax
import jax.numpy as jnp

from mdm_jax.errors import check_range
from mdm_jax.policies.base import PolicyState, confidence, or_best
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Decision, Observation, RowKey

EPS = 1e-12  # added to probabilities before their logarithm


@pytree_dataclass
class Klass:
    """Every position with confidence > confidence_threshold and KL(now || previous call) <
    kl_threshold at each of the last `history` calls; if there is none, the most confident one.

    No position qualifies in the first `history` - 1 calls of a block. The memory is a distribution
    over the `vocab` columns of the logits at every position.

    Reference: KLASS, arXiv:2511.05664.
    """

    vocab: int = static()  # columns of the denoiser's logits
    confidence_threshold: float = 0.6
    kl_threshold: float = 0.015  # nats
    history: int = 2  # consecutive calls below kl_threshold

    def __post_init__(self) -> None:
        check_range("history", self.history, 1)
        check_range("confidence_threshold", self.confidence_threshold)
        check_range("kl_threshold", self.kl_threshold)

    def init(self, length: int) -> PolicyState:
        """The distributions of the previous call, and consecutive calls below kl_threshold."""
        return jnp.zeros((length, self.vocab), jnp.float32), jnp.zeros(length, jnp.int32)

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        before, stable = state
        now = jax.nn.softmax(observation.logits, axis=-1)
        moved = jnp.sum(now * (jnp.log(now + EPS) - jnp.log(before + EPS)), axis=-1)
        stable = jnp.where(moved < self.kl_threshold, stable + 1, 0)
        scores, eligible = confidence(observation.logits), observation.eligible
        ready = eligible & (stable >= self.history) & (scores > self.confidence_threshold)
        ready &= observation.block_step >= self.history - 1
        unmask = or_best(key, ready, scores, eligible)
        return Decision(unmask, jnp.zeros_like(unmask)), (now, stable)
