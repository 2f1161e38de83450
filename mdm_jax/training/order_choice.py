"""Learning which of several static orders a prompt gets."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from mdm_jax.orders.variational.order_choice import (
    ChoiceConfig,
    Followed,
    OrderChoice,
    choice_loss,
)
from mdm_jax.types import RowKey, Scalar

HELD_OUT = 8  # one sequence in so many is held out
PARTS = 16  # of the run; after each the choice is compared on held-out sequences


class Fitted(NamedTuple):
    """The parameters that were best on held-out sequences, and what they are worth there."""

    params: Any
    worth: Scalar  # of the most probable order of each prompt
    best_single: Scalar  # of the one order that is best for all prompts
    shares: Float[Array, " orders"]  # of the prompts that choose each order


@partial(jax.jit, static_argnames=("network", "config"))
def fit_choice(
    key: RowKey, followed: Followed, network: OrderChoice, config: ChoiceConfig
) -> Fitted:
    """Fit the choice by AdamW, and keep the parameters that are best on held-out sequences."""
    k_init, k_updates = jax.random.split(key)
    count = max(len(followed.worth) // HELD_OUT, 1)
    heldout, train = (
        jax.tree.map(lambda x: x[:count], followed),
        jax.tree.map(lambda x: x[count:], followed),
    )
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.updates)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=config.weight_decay)
    )
    params = network.init(k_init, followed.features[0])["params"]

    def logits(params: Any, features: Array) -> Array:
        return jax.vmap(partial(network.apply, {"params": params}))(features)

    def update(carry: tuple, index: Array) -> tuple[tuple, None]:
        params, state = carry
        k_rows = jax.random.fold_in(k_updates, index)
        rows = jax.random.randint(k_rows, (config.batch_size,), 0, len(train.worth))
        progress = index / config.updates
        weights = config.entropy * (1 - progress), config.diversity_cost * progress

        def loss(params: Any) -> Scalar:
            found = logits(params, train.features[rows])
            return choice_loss(found, train.worth[rows], *weights)

        changes, state = optimizer.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, changes), state), None

    def chosen(params: Any) -> Array:
        return jnp.argmax(logits(params, heldout.features), axis=-1)

    def worth(params: Any) -> Scalar:
        return jnp.mean(jnp.take_along_axis(heldout.worth, chosen(params)[:, None], axis=1))

    def part(carry: tuple, indices: Array) -> tuple[tuple, None]:
        now, best, reached = carry
        now, _ = jax.lax.scan(update, now, indices)
        found = worth(now[0])
        best = jax.tree.map(lambda new, old: jnp.where(found > reached, new, old), now[0], best)
        return (now, best, jnp.maximum(found, reached)), None

    parts = min(PARTS, config.updates)
    indices = jnp.arange(config.updates // parts * parts).reshape(parts, -1)
    start = (params, optimizer.init(params)), params, worth(params)
    (_, best, reached), _ = jax.lax.scan(part, start, indices)
    shares = jnp.mean(jax.nn.one_hot(chosen(best), network.orders), axis=0)
    return Fitted(best, reached, jnp.max(jnp.mean(heldout.worth, axis=0)), shares)
