"""Training a denoiser: its state at the start, and the compiled update."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from mdm_jax import sharding
from mdm_jax.compiling import jit_update
from mdm_jax.training.loop import Update
from mdm_jax.training.state import Loss, Params, TrainState, init_state, train_step


def init_params(module: nn.Module, key: jax.Array, length: int, mask_id: int) -> Params:
    """Fresh parameters of a denoiser for canvases of `length` positions."""
    canvas = jnp.full((length,), mask_id)
    return module.init(key, canvas, jnp.ones(canvas.shape, bool))["params"]


def init_denoiser(
    module: nn.Module,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    length: int,
    mask_id: int,
    more: Params | None = None,
) -> TrainState:
    """The state before the first update.

    Args:
      more: parameters that the objective has, beside those of the network.
    """
    more = more or {}

    def init(key: jax.Array) -> TrainState:
        return init_state(init_params(module, key, length, mask_id) | more, optimizer)

    return jax.jit(init)(key)


def shard_state(
    state: TrainState, mesh: jax.sharding.Mesh, split: bool
) -> tuple[TrainState, PyTree]:
    """The state on all devices, and the sharding of each leaf.

    Args:
      split: parameters, average and optimiser over the devices, instead of copying them to each.
    """
    shardings = jax.tree.map(lambda _: sharding.replicated(mesh), state)
    if split:
        shardings = sharding.shard_largest_axis(mesh, state)
    return sharding.shard(jax.device_get(state), shardings), shardings


def compile_update(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    shardings: PyTree,
    *,
    ema_decay: float,
    micro_batches: int,
) -> Update:
    """`train_step` compiled, with the state donated and kept where `shard_state` has put it."""
    step = partial(
        train_step,
        loss=loss,
        optimizer=optimizer,
        ema_decay=ema_decay,
        micro_batches=micro_batches,
    )
    mesh = jax.tree.leaves(shardings)[0].mesh
    out = shardings, sharding.replicated(mesh)
    return jit_update(step, donate_argnums=0, out_shardings=out)
