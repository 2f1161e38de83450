"""Teaching a policy and a posterior the orders that sequences get, without denoiser calls."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from mdm_jax.orders.variational.demonstrations import Demonstrations, imitation_loss
from mdm_jax.orders.variational.loss import OrderParts
from mdm_jax.orders.variational.model import Sequence, response
from mdm_jax.orders.variational.order_choice import ImitationConfig
from mdm_jax.types import Mask, RowKey, Scalar


@partial(jax.jit, static_argnames=("parts", "config"))
def fit_policy(
    key: RowKey, params: Any, shown: Demonstrations, parts: OrderParts, config: ImitationConfig
) -> tuple[Any, Scalar]:
    """The policy's parameters after imitating, and the loss of the last batch in nats per step.

    Args:
      params: of the policy's network.
      shown: leading axis [n]; see `demonstrate`.
    """
    return _fit(key, params, shown, partial(imitation_loss, parts=parts), config)


@partial(jax.jit, static_argnames=("parts", "config"))
def fit_scores(
    key: RowKey,
    params: Any,
    orders: Int[Array, "n window"],
    sequences: Sequence,
    parts: OrderParts,
    config: ImitationConfig,
    spacing: Scalar | float,
) -> tuple[Any, Scalar]:
    """The posterior's parameters whose scores predict the orders of sequences, and the root of the mean
    square of what its scores were off in the last batch, in steps.

    Args:
      params: of the scorer.
      sequences: leading axis [n].
      spacing: between the scores of neighbouring steps.
    """

    def loss(params: Any, rows: tuple[Array, Sequence]) -> Scalar:
        errors, counts = jax.vmap(
            lambda order, sequence: _score_errors(params, order, sequence, parts, spacing)
        )(*rows)
        return jnp.sum(errors**2) / jnp.maximum(jnp.sum(counts), 1)

    params, error = _fit(key, params, (orders, sequences), loss, config)
    return params, jnp.sqrt(error)


def _score_errors(
    params: Any,
    order: Int[Array, " window"],
    sequence: Sequence,
    parts: OrderParts,
    spacing: Scalar | float,
) -> tuple[Float[Array, " window"], Mask]:
    """What the scores of one sequence are off, in steps, 0 where nothing is generated; where something
    is.
    """
    positions, valid = response(sequence, parts.model), sequence.tokens != parts.model.pad_id
    scores = parts.scorer.apply(
        {"params": params}, sequence.tokens, valid, sequence.maskable, positions
    )
    counts = sequence.maskable[positions]
    mean = jnp.sum(jnp.where(counts, order, 0)) / jnp.maximum(jnp.sum(counts), 1)
    return jnp.where(counts, scores.priority / spacing + order - mean, 0.0), counts


def _fit(
    key: RowKey,
    params: Any,
    data: Any,
    loss_of: Callable[[Any, Any], Scalar],
    config: ImitationConfig,
) -> tuple[Any, Scalar]:
    """Parameters after gradient steps on random rows of the data, and the loss of the last ones."""
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.updates)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    count = len(jax.tree.leaves(data)[0])

    def update(carry: tuple, index: Array) -> tuple[tuple, Scalar]:
        params, state = carry
        k_rows = jax.random.fold_in(key, index)
        rows = jax.random.randint(k_rows, (config.batch_size,), 0, count)
        batch = jax.tree.map(lambda x: x[rows], data)
        loss, gradient = jax.value_and_grad(loss_of)(params, batch)
        changes, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, changes), state), loss

    start = params, optimizer.init(params)
    (params, _), losses = jax.lax.scan(update, start, jnp.arange(config.updates))
    return params, losses[-1]
