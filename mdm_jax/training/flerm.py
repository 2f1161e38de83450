"""A training whose learning rates make every update move the outputs as far as those of another one."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from mdm_jax.denoisers.base import bind
from mdm_jax.denoisers.transformer import Transformer
from mdm_jax.diffusion.corruption import row_keys, stratified_times
from mdm_jax.diffusion.objectives import AnyOrder
from mdm_jax.training.function_rates import Sizes, Tracked, by_name, name_of, probe_gradient, track
from mdm_jax.training.losses import CanvasIds, TokenBatch
from mdm_jax.training.state import Loss, Params, TrainState, init_state
from mdm_jax.types import RowKey, Scalar


class Flerm(NamedTuple):
    """State of the training; `factors` multiply the learning rate of each parameter."""

    train: TrainState
    tracked: Tracked
    factors: dict[str, Scalar]


class Rules(NamedTuple):
    """What an update is made of."""

    loss: Loss
    optimizer: optax.GradientTransformation
    ema_decay: float


def init_flerm(params: Params, optimizer: optax.GradientTransformation) -> Flerm:
    """Before the first update."""
    factors = dict.fromkeys(by_name(params), jnp.ones(()))
    return Flerm(init_state(params, optimizer), track(params), factors)


def outputs_on(
    module: Transformer, batch: TokenBatch, ids: CanvasIds, key: RowKey
) -> Callable[[Params], Array]:
    """Logits at the maskable positions of a batch with masks, as training sees it."""
    k_times, k_rows = jax.random.split(key)
    count = len(batch.tokens)

    def masked(key: RowKey, tokens: Array, maskable: Array, t: Scalar) -> Array:
        masks, _ = AnyOrder().draw(key, maskable, t)
        return jnp.where(masks[0], ids.mask, tokens)

    rows = row_keys(k_rows, jnp.arange(count))
    times = stratified_times(k_times, count)
    canvases = jax.vmap(masked)(rows, batch.tokens, batch.maskable, times)

    def outputs(params: Params) -> Array:
        logits = jax.vmap(bind(module, params))(canvases, batch.tokens != ids.pad)
        return logits * batch.maskable[..., None]

    return outputs


def measure(
    state: Flerm,
    updates: PyTree,
    outputs: Callable[[Params], Array],
    key: RowKey,
    wanted: Sizes | None,
) -> tuple[Tracked, dict[str, Scalar], Sizes]:
    """Sizes of the updates, and the factors that make them as wanted; None: 1."""
    gradient = probe_gradient(outputs, state.train.params, key)
    tracked = state.tracked.then(updates, gradient)
    sizes = tracked.sizes()
    if wanted is None:
        return tracked, state.factors, sizes
    return tracked, {name: wanted[name] / sizes[name] for name in sizes}, sizes


def flerm_step(
    state: Flerm,
    key: RowKey,
    batch: TokenBatch,
    rate: Scalar,
    wanted: Sizes | None,
    *,
    rules: Rules,
    outputs: Callable[[TokenBatch, RowKey], Callable[[Params], Array]] | None,
) -> tuple[Flerm, Sizes]:
    """One update, whose factors are measured first where `outputs` is given.

    Args:
      rate: learning rate of this update, which that of the optimiser, 1, is multiplied by.
      wanted: how far the updates should move the outputs at a rate of 1.

    Returns:
      The next state, and how far updates move the outputs at a rate of 1 (nothing, if not measured).
    """
    k_loss, k_masks, k_probe = jax.random.split(key, 3)
    before, tracked, factors, sizes = state.train, state.tracked, state.factors, {}
    gradients, _ = jax.grad(rules.loss, has_aux=True)(before.params, k_loss, batch)
    updates, opt_state = rules.optimizer.update(gradients, before.opt_state, before.params)
    if outputs is not None:
        tracked, factors, sizes = measure(state, updates, outputs(batch, k_masks), k_probe, wanted)
    scaled = jax.tree.map_with_path(lambda path, x: rate * factors[name_of(path)] * x, updates)
    params = optax.apply_updates(before.params, scaled)
    decay = jnp.minimum(rules.ema_decay, (1.0 + before.step) / (10.0 + before.step))
    ema = optax.incremental_update(params, before.ema, 1.0 - decay)
    return Flerm(TrainState(before.step + 1, params, ema, opt_state), tracked, factors), sizes
