"""Sets of positions whose reveals cost one another: Bernoullis that remember what was accepted.

Positions are scanned by falling utility (ties: by their place). Position j is accepted with probability

  sigmoid(u_j - sum of c_ij over accepted i),    c_ij = left_i . right_j,

so the log-probability of a set is exact: given the set, what was accepted before j is known. Without
costs the positions are independent. An entropy bound is u_j = gamma - eps H_j, c_ij = H_i as eps falls
to 0.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.policies.action_distributions import Utilities, bernoulli_log_prob, from_logits
from mdm_jax.types import Mask, RowKey, Scalar

Change = Callable[[Float[Array, "..."]], Float[Array, "..."]]


class SetScores(NamedTuple):
    """What a set is drawn from."""

    utilities: Utilities
    left: Float[Array, "length rank"]
    right: Float[Array, "length rank"]  # rank 0: independent positions


def independent(utilities: Utilities) -> SetScores:
    """Scores without costs."""
    nothing = jnp.zeros((len(utilities), 0), jnp.float32)
    return SetScores(utilities, nothing, nothing)


def set_logits(scores: SetScores, chosen: Mask, eligible: Mask) -> Utilities:
    """Log-odds of each position, given what of a set was accepted before it."""
    if not scores.left.shape[1]:
        return scores.utilities
    order = _scan_order(scores, eligible)
    taken = jnp.where(chosen & eligible, 1.0, 0.0)[order, None] * scores.left[order]
    costs = jnp.sum((jnp.cumsum(taken, axis=0) - taken) * scores.right[order], axis=1)
    return scores.utilities - jnp.zeros_like(scores.utilities).at[order].set(costs)


def set_log_prob(scores: SetScores, chosen: Mask, eligible: Mask) -> Scalar:
    """Log-probability of a set, nats."""
    return bernoulli_log_prob(from_logits(set_logits(scores, chosen, eligible)), chosen, eligible)


def draw_set(
    key: RowKey, scores: SetScores, eligible: Mask, change: Change = lambda probs: probs
) -> Mask:
    """A random set, which may be empty.

    Args:
      change: of the probability with which a position is accepted.
    """
    if not scores.left.shape[1]:
        return jax.random.bernoulli(key, change(jax.nn.sigmoid(scores.utilities))) & eligible
    noise = jax.random.uniform(key, eligible.shape, jnp.float32)
    return _scan(
        scores, eligible, lambda place, logit: noise[place] < change(jax.nn.sigmoid(logit))
    )


def draw_sets(
    key: RowKey, scores: SetScores, eligible: Mask, count: int
) -> Bool[Array, "count length"]:
    """Several random sets."""
    if not scores.left.shape[1]:
        shape = (count, len(eligible))
        drawn = jax.random.bernoulli(key, jax.nn.sigmoid(scores.utilities)[None], shape)
        return drawn & eligible[None]
    return jax.vmap(draw_set, (0, None, None))(jax.random.split(key, count), scores, eligible)


def greedy_set(scores: SetScores, eligible: Mask) -> Mask:
    """Every position whose log-odds are positive when its turn comes."""
    if not scores.left.shape[1]:
        return eligible & (scores.utilities > 0)
    return _scan(scores, eligible, lambda place, logit: logit > 0)


def _scan(
    scores: SetScores,
    eligible: Mask,
    accepts: Callable[[Int[Array, ""], Scalar], Bool[Array, ""]],
) -> Mask:
    """Decide position after position."""

    def decide(taken: Float[Array, " rank"], place: Int[Array, ""]) -> tuple[Array, Array]:
        logit = scores.utilities[place] - jnp.dot(taken, scores.right[place])
        accepted = eligible[place] & accepts(place, logit)
        return taken + jnp.where(accepted, scores.left[place], 0.0), accepted

    order = _scan_order(scores, eligible)
    _, accepted = jax.lax.scan(decide, jnp.zeros(scores.left.shape[1], jnp.float32), order)
    return jnp.zeros_like(eligible).at[order].set(accepted)


def _scan_order(scores: SetScores, eligible: Mask) -> Int[Array, " length"]:
    """Eligible positions by falling utility, then the others."""
    return jnp.argsort(-jnp.where(eligible, scores.utilities, -jnp.inf), stable=True)
