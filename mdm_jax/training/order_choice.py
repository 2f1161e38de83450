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


class _State(NamedTuple):
    params: Any
    optimizer: optax.OptState
    best: Any  # parameters
    worth: Scalar  # of the best


@partial(jax.jit, static_argnames=("network", "config"))
def fit_choice(
    key: RowKey, followed: Followed, network: OrderChoice, config: ChoiceConfig
) -> Fitted:
    """Fit the choice by AdamW, and keep the parameters that are best on held-out sequences."""
    k_init, k_updates = jax.random.split(key)
    count = max(len(followed.worth) // HELD_OUT, 1)
    heldout = jax.tree.map(lambda x: x[:count], followed)
    train = jax.tree.map(lambda x: x[count:], followed)
    params = network.init(k_init, followed.features[0])["params"]
    state = _optimizer(config).init(params)
    state = _State(params, state, params, worth_of(params, heldout, network))
    update = partial(_update, key=k_updates, train=train, network=network, config=config)

    def part(state: _State, indices: Array) -> tuple[_State, None]:
        state, _ = jax.lax.scan(update, state, indices)
        return _keep_best(state, worth_of(state.params, heldout, network)), None

    parts = min(PARTS, config.updates)
    indices = jnp.arange(config.updates // parts * parts).reshape(parts, -1)
    state, _ = jax.lax.scan(part, state, indices)
    chosen = jnp.argmax(_logits(state.best, heldout, network), axis=-1)
    shares = jnp.mean(jax.nn.one_hot(chosen, network.orders), axis=0)
    return Fitted(state.best, state.worth, jnp.max(jnp.mean(heldout.worth, axis=0)), shares)


def worth_of(params: Any, followed: Followed, network: OrderChoice) -> Scalar:
    """Mean worth of the most probable order of each prompt."""
    chosen = jnp.argmax(_logits(params, followed, network), axis=-1)
    return jnp.mean(jnp.take_along_axis(followed.worth, chosen[:, None], axis=1))


def _optimizer(config: ChoiceConfig) -> optax.GradientTransformation:
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.updates)
    adamw = optax.adamw(schedule, weight_decay=config.weight_decay)
    return optax.chain(optax.clip_by_global_norm(1.0), adamw)


def _logits(params: Any, followed: Followed, network: OrderChoice) -> Float[Array, "n orders"]:
    return jax.vmap(partial(network.apply, {"params": params}))(followed.features)


def _update(
    state: _State,
    index: Array,
    *,
    key: RowKey,
    train: Followed,
    network: OrderChoice,
    config: ChoiceConfig,
) -> tuple[_State, None]:
    """One step of AdamW on random sequences."""
    k_rows, progress = jax.random.fold_in(key, index), index / config.updates
    rows = jax.random.randint(k_rows, (config.batch_size,), 0, len(train.worth))
    batch = jax.tree.map(lambda x: x[rows], train)
    weights = config.entropy * (1 - progress), config.diversity_cost * progress

    def loss(params: Any) -> Scalar:
        return choice_loss(_logits(params, batch, network), batch.worth, *weights)

    gradient = jax.grad(loss)(state.params)
    changes, optimizer = _optimizer(config).update(gradient, state.optimizer, state.params)
    return state._replace(
        params=optax.apply_updates(state.params, changes), optimizer=optimizer
    ), None


def _keep_best(state: _State, worth: Scalar) -> _State:
    better = worth > state.worth
    best = jax.tree.map(partial(jnp.where, better), state.params, state.best)
    return state._replace(best=best, worth=jnp.maximum(worth, state.worth))
