"""Teaching a policy the orders that prompts get, without denoiser calls."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from mdm_jax.orders.variational.demonstrations import Demonstrations, imitation_loss
from mdm_jax.orders.variational.loss import OrderParts
from mdm_jax.orders.variational.order_choice import ImitationConfig
from mdm_jax.types import RowKey, Scalar


@partial(jax.jit, static_argnames=("parts", "config"))
def fit_policy(
    key: RowKey, params: Any, shown: Demonstrations, parts: OrderParts, config: ImitationConfig
) -> tuple[Any, Scalar]:
    """The policy's parameters after imitating, and the loss of the last batch in nats per step.

    Args:
      params: of the policy's network.
      shown: leading axis [n]; see `demonstrate`.
    """
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.updates)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    def update(carry: tuple, index: Array) -> tuple[tuple, Scalar]:
        params, state = carry
        k_rows = jax.random.fold_in(key, index)
        rows = jax.random.randint(k_rows, (config.batch_size,), 0, len(shown.reveal))
        batch = jax.tree.map(lambda x: x[rows], shown)
        loss, gradient = jax.value_and_grad(imitation_loss)(params, batch, parts)
        changes, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, changes), state), loss

    start = params, optimizer.init(params)
    (params, _), losses = jax.lax.scan(update, start, jnp.arange(config.updates))
    return params, losses[-1]
