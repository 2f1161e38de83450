"""PUNT: positions that do not depend on each other, found by log2 tests."""

from typing import ClassVar

import jax
import jax.numpy as jnp

from mdm_jax.errors import check_range
from mdm_jax.policies.base import PolicyState, Scores, confidence, rank
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Count, Decision, Logits, Mask, Observation, RowKey


@pytree_dataclass
class Punt:
    """Reveals what survives tests of independence, each of which is one further denoiser call.

    The eligible positions are ranked by confidence. For each bit of the rank, the highest first, the
    candidates whose bit is 0 are anchors: the denoiser is shown their proposed tokens, and candidates
    whose bit is 1 are dropped if their distribution moves by more than `epsilon` nats,
    KL(before || after). The best position is never tested. m candidates take ceil(log2 m) tests.

    Any two survivors were told apart by one test, so with a small epsilon pairs that depend on each other
    in the context that was drawn are not revealed together. Not seen is dependence that no such test
    shows, as in the parity of many bits; and a test tells nothing where anchors, drawn independently of
    each other, contradict each other.

    Reference: PUNT, arXiv:2510.21961 (epsilon 0.01 to 0.32 there).
    """

    wants_lookahead: ClassVar[bool] = True

    epsilon: float = 0.05  # nats; larger reveals more

    def __post_init__(self) -> None:
        check_range("epsilon", self.epsilon, 0)

    def init(self, length: int) -> PolicyState:
        return ()

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        logits, eligible = observation.logits, observation.eligible
        ranks = rank(key, confidence(logits), eligible)
        bits = max((len(eligible) - 1).bit_length(), 1)

        def test(number: Count, kept: Mask) -> Mask:
            tested = kept & ((ranks >> (bits - 1 - number)) % 2 == 1)
            after = observation.lookahead((kept & ~tested)[None])[0]
            return kept & ~(tested & (divergence(logits, after) > self.epsilon))

        kept = jax.lax.fori_loop(0, bits, test, eligible)
        needed = jnp.sum(2 ** jnp.arange(bits) < jnp.sum(eligible), dtype=jnp.int32)
        return Decision(kept, jnp.zeros_like(kept), extra_calls=needed), state


def divergence(before: Logits, after: Logits) -> Scores:
    """KL(before || after) at each position, nats; infinite where a token has become impossible."""
    old, new = jax.nn.log_softmax(before), jax.nn.log_softmax(after)
    possible = old > -jnp.inf
    difference = jnp.where(possible, old, 0.0) - jnp.where(possible, new, 0.0)
    return jnp.sum(jnp.where(possible, jnp.exp(old) * difference, 0.0), axis=-1)
