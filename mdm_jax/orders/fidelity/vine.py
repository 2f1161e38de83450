"""Credit for each step of an order: several branches from one visited state.

At a visited state of a clean sequence x, some sets of positions are tried, and each branch is finished
by the mode of the policy along the same x. It returns

  J = min(cap, w) - price * calls,    log w = log p_order(x | prompt) - log p_sequential(x | prompt),

and the gradient of E_pi[J] is estimated as in `credit`.

Rows may also draw tokens of their own, so that states after a mistake are seen. There the rest x' is
drawn by sequential decoding of the canvas c, and with r = p_sequential(c) / p_order(c) the return is
min(r, w(x')): E[min(r, w)] over c ~ order, x' ~ sequential is 1 - TV(order, sequential) as well.

Named after the vine procedure of TRPO, arXiv:1502.05477; returns and settings: measured for this project.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.orders.fidelity.branches import branchings, try_sets
from mdm_jax.orders.fidelity.config import VineParts
from mdm_jax.orders.fidelity.credit import Tried, set_loss
from mdm_jax.orders.fidelity.exploration import FidelityBatch, Row, draw_prices, explore, visits
from mdm_jax.orders.fidelity.likelihood import sequential_likelihood
from mdm_jax.orders.fidelity.teacher_forcing import Sequence
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.types import RowKey, Scalar

Metrics = dict[str, Array]


def vine_loss(
    params: Any,
    key: RowKey,
    batch: FidelityBatch,
    *,
    policy: AdaptivePolicy,
    denoise: Denoise,
    parts: VineParts,
) -> tuple[Scalar, Metrics]:
    """The estimate of the gradient of the mean return over states, and metrics.

    Returns:
      A loss that is only good for its gradient; the mean of the mode's returns and of w where no token
      was drawn, calls of the denoiser, entropy in nats.
    """
    config, fixed = parts.config, jax.lax.stop_gradient(replace(policy, params=params))
    tried, real, metrics = try_everything(key, batch, fixed, denoise, parts)
    progress = jnp.mean(batch.progress)
    weight = config.entropy * jnp.maximum(1.0 - progress / config.anneal, 0.0)

    def one(tried: Tried) -> tuple[Scalar, Scalar]:
        utilities = replace(policy, params=params).utilities(tried.features)
        scaled = tried._replace(returns=tried.returns / (tried.price + config.price_offset))
        return set_loss(scaled, config.draws, utilities, weight)

    losses, entropies = jax.vmap(one)(tried)
    count = jnp.maximum(jnp.sum(real), 1)
    metrics["entropy"] = jnp.sum(entropies * real) / count
    return jnp.sum(losses * real) / count, metrics


def try_everything(
    key: RowKey, batch: FidelityBatch, policy: AdaptivePolicy, denoise: Denoise, parts: VineParts
) -> tuple[Tried, Bool[Array, " states"], Metrics]:
    """Explore, choose states, and try sets at them.

    Returns:
      What was tried [states], which of the states are real, and metrics.
    """
    config, forcing, count = parts.config, parts.forcing, len(batch.tokens)
    k_reference, k_price, k_explore, k_states, k_rest, k_sets = jax.random.split(key, 6)
    alone = round(config.on_policy * count)  # these rows draw tokens of their own
    rows = Row(
        row_keys(k_explore, jnp.arange(count)),
        batch.maskable,
        jnp.arange(count) < alone,
        draw_prices(k_price, count, config.prices),
    )
    followed = Sequence(batch.tokens[alone:], batch.maskable[alone:])
    sequential = sequential_likelihood(
        k_reference, followed, parts.reference, denoise, forcing, config.chunk
    )
    log_sequential = jnp.pad(sequential.log_prob, (alone, 0))
    seen = explore(batch.tokens, rows, policy, denoise, forcing, config.chunk)
    visited, row, real = visits(k_states, seen, rows, config.states)
    keys = row_keys(k_rest, jnp.arange(config.states))
    at, completion_calls = branchings(keys, visited, log_sequential[row], denoise, parts)
    keys = row_keys(k_sets, jnp.arange(config.states))
    tried, branch_calls = try_sets(keys, at, policy, denoise, parts)
    walk_calls, by_mode = (
        jnp.sum(seen.state.calls, dtype=jnp.float32),
        tried.returns[:, config.draws],
    )
    metrics = {
        "return": jnp.sum(by_mode * real) / jnp.maximum(jnp.sum(real), 1),
        "walk_calls": walk_calls / count,
        "calls": jnp.sum(sequential.calls) + walk_calls + completion_calls + branch_calls,
    }
    return tried, real, metrics
