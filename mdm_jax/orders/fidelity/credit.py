"""Credit for the sets of positions that are tried at one state: the gradient, from what they return.

The gradient of E_pi[J] is estimated from K drawn sets A_k and a few fixed ones B_e that are worth trying
at every state (the mode, everything, a heuristic's set):

  sum_e pi(B_e) (J_e - b) grad log pi(B_e)  +  1/K sum_k [A_k is no B] (J_k - b_k) grad log pi(A_k),

b_k the mean of the other drawn J, b of all. It is unbiased: fixed sets are summed over instead of
sampled, and all baselines together weigh sum_A pi(A) grad log pi(A) = 0. What a set returns may be
random, and the same random numbers may serve all sets of a state.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.policies.action_distributions import bernoulli_entropy, bernoulli_log_prob, from_logits
from mdm_jax.policies.adaptive import AdaptivePolicy, or_best_utility
from mdm_jax.policies.networks.adaptive_network import AdaptiveFeatures
from mdm_jax.types import RowKey, Scalar


class ProposedSets(NamedTuple):
    """Sets to be tried at one state: the drawn ones, then the fixed ones."""

    drawn: Bool[Array, "tried window"]  # an empty set reveals the best position
    revealed: Bool[Array, "tried window"]
    same: Int[Array, " tried"]  # for each the first one that reveals the same

    @property
    def is_first(self) -> Bool[Array, " tried"]:
        """Whether none before it reveals the same."""
        return self.same == jnp.arange(len(self.same))


class Tried(NamedTuple):
    """Sets tried at one state: the drawn ones, then the fixed ones."""

    features: AdaptiveFeatures
    sets: Bool[Array, "tried window"]  # as drawn: an empty set reveals the best position
    returns: Float[Array, " tried"]
    price: Scalar


def proposed_sets(
    key: RowKey,
    features: AdaptiveFeatures,
    utilities: Float[Array, " window"],
    policy: AdaptivePolicy,
    draws: int,
    try_start: bool,
) -> ProposedSets:
    """`draws` sets of the policy and those of `fixed_sets`; `key` breaks ties as well."""
    eligible = features.eligible
    shape = (draws, len(eligible))
    drawn = jax.random.bernoulli(key, jax.nn.sigmoid(utilities)[None], shape) & eligible[None]
    sets = jnp.concatenate([drawn, fixed_sets(features, utilities, policy, try_start)])
    best = partial(or_best_utility, key)
    revealed = jax.vmap(best, in_axes=(0, None, None))(sets, utilities, eligible)
    return ProposedSets(sets, revealed, first_same(revealed))


def fixed_sets(
    features: AdaptiveFeatures,
    utilities: Float[Array, " window"],
    policy: AdaptivePolicy,
    try_start: bool,
) -> Bool[Array, "fixed window"]:
    """The policy's mode, everything, and with `try_start` the set of the heuristic it started at."""
    eligible = features.eligible
    sets = [eligible & (utilities > 0), eligible]
    if try_start:
        sets.append(eligible & (policy.network.config.start(features) > 0))
    return jnp.stack(sets)


def first_same(sets: Bool[Array, "n window"]) -> Int[Array, " n"]:
    """For each set the number of the first one that equals it."""
    return jnp.argmax(jnp.all(sets[:, None] == sets[None, :], axis=-1), axis=1)


def set_loss(
    tried: Tried, draws: int, utilities: Float[Array, " window"], entropy: Scalar
) -> tuple[Scalar, Scalar]:
    """A loss whose gradient is minus the estimate above, for one state; returns in units of themselves.

    Args:
      draws: how many of the tried sets were drawn.
      entropy: weight of the policy's entropy.

    Returns:
      The loss, and the entropy in nats.
    """
    bernoulli, eligible = from_logits(utilities), tried.features.eligible
    logs = jax.vmap(lambda tried: bernoulli_log_prob(bernoulli, tried, eligible))(tried.sets)
    weights = jax.lax.stop_gradient(set_weights(tried, draws, logs))
    nats = jnp.sum(jnp.where(eligible, bernoulli_entropy(bernoulli), 0.0))
    return -jnp.sum(weights * logs) - entropy * nats, nats


def set_weights(tried: Tried, draws: int, logs: Float[Array, " tried"]) -> Float[Array, " tried"]:
    """What grad log pi of each tried set is multiplied with."""
    returns, sets, count = tried.returns, tried.sets, tried.sets.shape[0]
    drawn = jnp.arange(count) < draws
    fixed = sets[draws:]
    is_fixed = jnp.any(jnp.all(sets[:, None] == fixed[None, :], axis=-1), axis=1)
    mean = jnp.mean(returns[:draws])
    of_drawn = (returns - mean) / (draws - 1) * ~is_fixed  # (J - mean of the others) / draws
    is_first = draws + first_same(fixed)[jnp.maximum(jnp.arange(count) - draws, 0)]
    of_fixed = jnp.exp(logs) * (returns - mean) * (is_first == jnp.arange(count))
    return jnp.where(drawn, of_drawn, of_fixed)
