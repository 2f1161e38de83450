"""A policy and a critic of its calls, from a replay: what a set costs, now and later.

With the price lambda of a call in nats, an order is worth

  -(E[-log w] + lambda E[calls]),   w = p_order(x | prompt) / p_sequential(x | prompt),

which adds up over its calls: a set A that is revealed where the denoiser's entropies are H_j costs
sum_{j in A} H_j + lambda, and then what the rest costs. What a call showed does not depend on lambda, so
a call can be replayed at any price, again and again: Q-learning. The critic predicts, for a state and a
set, the nats lost where each other position is revealed, and the calls still to be made. The policy,
independent Bernoullis, follows the gradient of sum_A pi(A) Q(A) over sets that it draws itself, at no
denoiser call.

Rows that draw tokens of their own also meet canvases that sequential decoding would not draw. There
nothing more is lost by a set, and only calls count: nats are weighed by the survival
min(1, p_sequential / p_order) of the canvas, whose expectation the critic predicts as well.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mdm_jax.chunks import LIMIT, kept, map_rows
from mdm_jax.orders.fidelity.config import CriticParts, ReplayConfig
from mdm_jax.orders.fidelity.exploration import draw_prices
from mdm_jax.orders.fidelity.replay import Transition
from mdm_jax.policies.action_distributions import Utilities, bernoulli_entropy, from_logits
from mdm_jax.policies.adaptive import AdaptivePolicy, or_best_utility
from mdm_jax.policies.networks.adaptive_network import AdaptiveFeatures
from mdm_jax.policies.networks.critic_network import Prediction
from mdm_jax.policies.pair_costs import draw_set, draw_sets, greedy_set, set_log_prob, set_logits
from mdm_jax.types import Mask, RowKey, Scalar

INNER = 16  # numbers that the critic has of a position, in widths
PULL = 0.1  # weight of `excess`
OTHERS = 2**30  # folded into a key to draw sets at other prices
POSITION_WEIGHT = 0.2  # of the squared errors at single positions beside that of their sum

Metrics = dict[str, Array]


def targets(
    key: RowKey,
    transition: Transition,
    policy: AdaptivePolicy,
    critic_params: Any,
    parts: CriticParts,
) -> Prediction:
    """What the critic should have predicted for one call, if it is right about the next.

    The policy's mode makes the next call, and `key` breaks its ties; the last call that may be made
    reveals all. Positions that cost nothing because an EOS closed them have a target of 0.
    """
    features, survival = transition.next_features, transition.next_survival
    scores, eligible = policy.scores(features), features.eligible
    chosen = or_best_utility(key, greedy_set(scores, eligible), scores.utilities, eligible)
    chosen = jnp.where(features.calls_left <= 1, features.is_masked, chosen)
    later = parts.critic.apply({"params": critic_params}, features, chosen)
    nats = jnp.where(chosen, survival * features.entropy, later.nats)
    calls = jnp.where(jnp.any(features.is_masked), 1.0 + later.calls, 0.0)
    return Prediction(jnp.where(features.is_masked, nats, 0.0), calls, transition.survival)


def states_at_once(parts: CriticParts, window: int, sets: int = 1) -> int:
    """States at which the critic is asked about so many sets together, at least 1."""
    config = parts.critic.config
    per_position = INNER * config.width + config.depth * config.heads * window
    return max(LIMIT // (sets * window * per_position), 1)


def critic_loss(
    critic_params: Any, batch: Transition, wanted: Prediction, parts: CriticParts
) -> tuple[Scalar, Metrics]:
    """Squared errors of positions and of the survival, Huber's of the sum over positions and of calls.

    Args:
      batch, wanted: leading axis [replayed].
    """

    def one(transition: Transition, wanted: Prediction) -> tuple[Scalar, Scalar, Scalar]:
        features = transition.features
        found = parts.critic.apply({"params": critic_params}, features, transition.revealed)
        left = features.is_masked & ~transition.revealed
        errors = jnp.where(left, found.nats - wanted.nats, 0.0)
        lost, calls = jnp.sum(errors), found.calls - wanted.calls
        loss = POSITION_WEIGHT * jnp.sum(errors**2) + (found.survival - wanted.survival) ** 2
        return loss + huber(lost) + huber(calls), jnp.abs(lost), jnp.abs(calls)

    size = states_at_once(parts, batch.revealed.shape[1])
    found = map_rows(lambda row: one(*row), (batch, wanted), size, recompute=True)
    loss, lost, calls = (jnp.mean(x) for x in found)
    return loss, {"nats_error": lost, "calls_error": calls}


def huber(error: Scalar) -> Scalar:
    """Half the square up to 1, linear beyond."""
    size = jnp.abs(error)
    return jnp.where(size <= 1.0, error**2 / 2, size - 0.5)


def returns_of(
    sets: Array, features: AdaptiveFeatures, critic_params: Any, parts: CriticParts
) -> Float[Array, " sets"]:
    """What the critic thinks of sets [sets, window] at one state: minus nats and price of the calls."""

    def one(chosen: Mask) -> Scalar:
        found = parts.critic.apply({"params": critic_params}, features, chosen)
        now = found.survival * jnp.sum(jnp.where(chosen, features.entropy, 0.0))
        return -(now + jnp.sum(found.nats) + features.price * (1.0 + found.calls))

    return jax.vmap(one)(sets)


def policy_loss(
    params: Any,
    key: RowKey,
    batch: Transition,
    share: Scalar,
    *,
    policy: AdaptivePolicy,
    critic_params: Any,
    parts: CriticParts,
) -> tuple[Scalar, Metrics]:
    """A loss whose gradient is minus that of the mean return, by sets that the policy draws, and that
    pulls it to better ones that it draws at other prices.

    Args:
      batch: leading axis [replayed]; states alone are used.
      share: of the weights of entropy and bound, which fall while the policy learns.

    Returns:
      The loss, and the entropy in nats.
    """
    config, policy = parts.config, replace(policy, params=params)

    def one(key: RowKey, features: AdaptiveFeatures) -> tuple[Scalar, Scalar]:
        scores, eligible = policy.scores(features), features.eligible
        fixed = jax.lax.stop_gradient(scores)
        drawn = draw_sets(key, fixed, eligible, config.draws)
        best = partial(or_best_utility, key, utilities=fixed.utilities, eligible=eligible)
        sets = jax.vmap(best)(drawn)
        borrowed = sets_at_other_prices(key, features, policy, config)
        tried = jnp.concatenate([sets, borrowed])
        returns = jax.lax.stop_gradient(returns_of(tried, features, critic_params, parts))
        returns = kept(returns) / (features.price + config.price_offset)
        log_prob = jax.vmap(lambda chosen: set_log_prob(scores, chosen, eligible))
        logs = log_prob(jnp.concatenate([drawn, borrowed]))
        bernoulli = from_logits(set_logits(scores, drawn[0], eligible))
        nats = jnp.sum(jnp.where(eligible, bernoulli_entropy(bernoulli), 0.0))
        pull = PULL * excess(scores.utilities, eligible, config.bound)
        loss = share * (pull - config.entropy * nats) - gain(returns, logs, config.draws)
        return loss, nats

    keys = jax.random.split(key, len(batch.survival))
    size = states_at_once(parts, batch.revealed.shape[1], config.draws + config.borrowed)
    rows = keys, batch.features
    loss, nats = map_rows(lambda row: one(*row), rows, size, recompute=True)
    return jnp.mean(loss), {"entropy": jnp.mean(nats)}


def gain(returns: Float[Array, " sets"], logs: Float[Array, " sets"], own: int) -> Scalar:
    """What is maximised at one state.

    Args:
      logs: of the probability of each set under the policy, nats.
      own: the number of sets, the first ones, that the policy has drawn: each beside the mean of all.
        The others count where they are better than that mean.
    """
    advantages = returns - jnp.mean(returns[:own])
    found = jnp.sum(advantages[:own] * logs[:own]) / (own - 1)
    if own == len(returns):
        return found
    return found + jnp.mean(jnp.maximum(advantages[own:], 0.0) * logs[own:])


def sets_at_other_prices(
    key: RowKey, features: AdaptiveFeatures, policy: AdaptivePolicy, config: ReplayConfig
) -> Bool[Array, "borrowed window"]:
    """A set that the policy draws at the same state at each of some other prices."""

    def one(key: RowKey, price: Scalar) -> Mask:
        scores = jax.lax.stop_gradient(policy.scores(features._replace(price=price)))
        drawn = draw_set(key, scores, features.eligible)
        return or_best_utility(key, drawn, scores.utilities, features.eligible)

    k_price, k_sets = jax.random.split(jax.random.fold_in(key, OTHERS))
    prices = draw_prices(k_price, config.borrowed, config.prices)
    return jax.vmap(one)(jax.random.split(k_sets, config.borrowed), prices)


def excess(utilities: Utilities, eligible: Mask, bound: float | None) -> Scalar:
    """Sum of squares of what log-odds have beyond +-`bound`."""
    if bound is None:
        return jnp.zeros((), jnp.float32)
    beyond = jnp.maximum(jnp.abs(utilities) - bound, 0.0)
    return jnp.sum(jnp.where(eligible, beyond**2, 0.0))
