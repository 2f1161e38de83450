"""The state of a training, and the pure update of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from mdm_jax.types import RowKey, Scalar

Params = PyTree
BatchTree = PyTree
Metrics = dict[str, Any]
Loss = Callable[[Params, RowKey, BatchTree], tuple[Scalar, Metrics]]


class TrainState(NamedTuple):
    """Everything that a run resumes from; keys are derived from the seed and `step`."""

    step: Int[Array, ""]
    params: Params
    ema: Params
    opt_state: PyTree


def init_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step; the average starts as a copy of the parameters."""
    return TrainState(
        jnp.zeros((), jnp.int32), params, jax.tree.map(jnp.copy, params), optimizer.init(params)
    )


def accumulate(
    loss: Loss, params: Params, key: RowKey, batch: BatchTree, micro_batches: int
) -> tuple:
    """Mean metrics and gradient over equal slices of the batch, one after another, each its own key.

    Raises:
      ValueError: the batch does not divide into `micro_batches`.
    """
    size = jax.tree.leaves(batch)[0].shape[0]
    if size % micro_batches:
        raise ValueError(f"a batch of {size} does not divide into {micro_batches} micro-batches")
    gradient = jax.grad(loss, has_aux=True)
    if micro_batches == 1:
        return gradient(params, key, batch)
    # row i goes to slice i mod micro_batches, so that a batch split over devices stays split
    slices = jax.tree.map(
        lambda x: x.reshape(-1, micro_batches, *x.shape[1:]).swapaxes(0, 1), batch
    )

    def add(total: PyTree, item: tuple) -> tuple:
        index, part = item
        now = gradient(params, jax.random.fold_in(key, index), part)
        return jax.tree.map(lambda a, b: a + b / micro_batches, total, now), None

    first = jax.tree.map(lambda x: x[0], slices)
    zeros = jax.tree.map(
        lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(gradient, params, key, first)
    )
    return jax.lax.scan(add, zeros, (jnp.arange(micro_batches), slices))[0]


def train_step(
    state: TrainState,
    key: RowKey,
    batch: BatchTree,
    *,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    ema_decay: float = 0.999,
    micro_batches: int = 1,
) -> tuple[TrainState, Metrics]:
    """One update. Pure; jit it with the keyword arguments bound.

    The exponential average uses min(ema_decay, (1 + step) / (10 + step)), so it forgets the start.

    Returns:
      The next state, and the metrics with the gradient's global norm before clipping.
    """
    grads, metrics = accumulate(loss, state.params, key, batch, micro_batches)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
    ema = optax.incremental_update(params, state.ema, 1.0 - decay)
    metrics = metrics | {"grad_norm": optax.tree.norm(grads)}
    return TrainState(state.step + 1, params, ema, opt_state), metrics
