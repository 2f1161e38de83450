"""The state of a training, and the pure update of it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from mdm_jax.errors import MdmError
from mdm_jax.types import RowKey, Scalar

Params = PyTree
BatchTree = PyTree
Metrics = dict[str, Any]
# metrics["weight"], where given, is what the loss is a mean over: slices of a batch are weighed by it
Loss = Callable[[Params, RowKey, BatchTree], tuple[Scalar, Metrics]]


class TrainState(NamedTuple):
    """Everything that a run resumes from; keys are derived from the seed and `step`.

    Parameters, their average and the optimiser's moments are float32, whatever the network computes in:
    at a learning rate of 1e-5 most updates of a bfloat16 weight would round to nothing.
    Reference: mixed precision training, arXiv:1710.03740, section 3.1.
    """

    step: Int[Array, ""]
    params: Params
    ema: Params
    opt_state: PyTree


def init_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step; the average starts as a copy of the parameters."""
    params = float32_params(params)
    return TrainState(
        jnp.zeros((), jnp.int32), params, jax.tree.map(jnp.copy, params), optimizer.init(params)
    )


def float32_params(params: Params) -> Params:
    """Parameters as they are trained: float32 in the place of bfloat16 and float16."""
    return jax.tree.map(
        lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)), params
    )


def accumulate(
    loss: Loss, params: Params, key: RowKey, batch: BatchTree, micro_batches: int
) -> tuple:
    """Gradient and metrics, means over slices of the batch, one after another, each its own key.

    Slices have equally many rows, and the weight that their loss gives them.

    Raises:
      MdmError: the batch does not divide into `micro_batches`.
    """
    size = jax.tree.leaves(batch)[0].shape[0]
    if size % micro_batches:
        raise MdmError(f"a batch of {size} does not divide into {micro_batches} micro-batches")
    gradient = partial(_weighted_gradient, jax.grad(loss, has_aux=True), params)
    if micro_batches == 1:
        return gradient(key, batch)[1]
    # row i goes to slice i mod micro_batches, so that a batch split over devices stays split
    slices = jax.tree.map(
        lambda x: x.reshape(-1, micro_batches, *x.shape[1:]).swapaxes(0, 1), batch
    )

    def add(total: PyTree, item: tuple) -> tuple:
        index, part = item
        weight, now = gradient(jax.random.fold_in(key, index), part)
        weighed = jax.tree.map(lambda a, b: a + (weight * b).astype(a.dtype), total[1], now)
        return (total[0] + weight, weighed), None

    first = jax.tree.map(lambda x: x[0], slices)
    zeros = jax.tree.map(
        lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(gradient, key, first)
    )
    weight, total = jax.lax.scan(add, zeros, (jnp.arange(micro_batches), slices))[0]
    return jax.tree.map(lambda x: (x / jnp.maximum(weight, 1.0)).astype(x.dtype), total)


def _weighted_gradient(
    gradient: Callable[..., tuple], params: Params, key: RowKey, batch: BatchTree
) -> tuple[Scalar, tuple[PyTree, Metrics]]:
    """The weight of a batch, and its gradient and metrics."""
    grads, metrics = gradient(params, key, batch)
    weight = jnp.asarray(metrics.get("weight", 1.0), jnp.float32)
    return weight, (grads, {name: x for name, x in metrics.items() if name != "weight"})


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
