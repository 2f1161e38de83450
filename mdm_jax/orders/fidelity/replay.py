"""The calls that a policy has made, kept to be learned from again at other prices."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mdm_jax.orders.fidelity.config import ReplayConfig
from mdm_jax.orders.fidelity.exploration import draw_prices
from mdm_jax.policies.networks.adaptive_network import AdaptiveFeatures
from mdm_jax.types import Count, Mask, RowKey, Scalar


class Steps(NamedTuple):
    """The calls of one row, in their order [budget, ...]."""

    features: AdaptiveFeatures  # what the policy saw; nothing is masked past the last call
    revealed: Bool[Array, "budget window"]
    # min(1, p_sequential / p_policy) of what was shown before each call: how much of it sequential
    # decoding would have drawn, too; 1 where the tokens are those of a clean sequence
    survival: Float[Array, " budget"]


class Replay(NamedTuple):
    """The latest rows, oldest first overwritten."""

    rows: Steps  # leading axis [capacity]
    added: Count  # rows so far


class Transition(NamedTuple):
    """One call, or two merged into one, and the state after it."""

    features: AdaptiveFeatures
    revealed: Mask
    survival: Scalar
    next_features: AdaptiveFeatures  # nothing is masked where the row was finished
    next_survival: Scalar


def empty_replay(example: Steps, capacity: int) -> Replay:
    """Room for `capacity` rows.

    Args:
      example: shapes of some rows, leading axis [n]; n divides the capacity.

    Raises:
      ValueError: it does not.
    """
    count = example.survival.shape[0]
    if capacity % count:
        raise ValueError(f"a replay of {capacity} rows is no multiple of {count} rows at a time")
    blank = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape[1:]), leaf.dtype), example)
    return Replay(blank, jnp.zeros((), jnp.int32))


def add(replay: Replay, rows: Steps) -> Replay:
    """Keep some rows, over the oldest ones."""
    capacity, count = replay.rows.survival.shape[0], rows.survival.shape[0]
    start = replay.added % capacity
    kept = jax.tree.map(
        lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, start, 0), replay.rows, rows
    )
    return Replay(kept, replay.added + count)


def draw_transitions(key: RowKey, replay: Replay, config: ReplayConfig) -> Transition:
    """Random calls of random rows, each at a new price; leading axis [replayed]."""
    k_row, k_price, k_call = jax.random.split(key, 3)
    count, capacity = config.replayed, replay.rows.survival.shape[0]
    filled = jnp.minimum(replay.added, capacity)
    rows = jax.random.randint(k_row, (count,), 0, filled)
    prices = draw_prices(k_price, count, config.prices)
    steps = jax.tree.map(lambda leaf: leaf[rows], replay.rows)
    draw = partial(draw_transition, skip=config.skip)
    return jax.vmap(draw)(jax.random.split(k_call, count), steps, prices)


def draw_transition(key: RowKey, steps: Steps, price: Scalar, skip: float) -> Transition:
    """A random call of one row; some are merged with the next where one call could reveal both sets.

    What comes after merged calls has one call more left.
    """
    k_call, k_skip = jax.random.split(key)
    budget = len(steps.survival)
    calls = jnp.sum(jnp.any(steps.features.is_masked, axis=-1), dtype=jnp.int32)
    call = jnp.floor(jax.random.uniform(k_call, (), jnp.float32) * calls).astype(jnp.int32)
    features = _at(steps.features, call)._replace(price=price)
    one, other = steps.revealed[call], steps.revealed[jnp.minimum(call + 1, budget - 1)]
    merged = jax.random.bernoulli(k_skip, skip) & (call + 1 < calls)
    merged &= jnp.all(features.eligible | ~other)
    after = call + 1 + merged
    last = jnp.minimum(after, budget - 1)
    following = _at(steps.features, last)._replace(price=price)
    is_masked = following.is_masked & (after < calls)
    following = following._replace(
        is_masked=is_masked,
        eligible=following.eligible & is_masked,
        calls_left=following.calls_left + merged,
    )
    return Transition(
        features,
        one | (other & merged),
        steps.survival[call],
        following,
        steps.survival[last],
    )


def _at(features: AdaptiveFeatures, call: Count) -> AdaptiveFeatures:
    return jax.tree.map(lambda leaf: leaf[call], features)
