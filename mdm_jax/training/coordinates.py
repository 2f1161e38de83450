"""Coordinate check: how much the activations of a transformer move in the first updates.

A rule transfers settings over widths and depths if the change of every activation has the same size in
all of them: the slope of log RMS(h(t) - h(0)) on log width, or log depth, is 0. Where it is not, a
learning rate that is right for one size is too large or too small for another.

Reference: Yang et al., arXiv:2203.03466, appendix D.1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.diffusion.corruption import row_keys, stratified_times
from mdm_jax.diffusion.objectives import AnyOrder
from mdm_jax.keys import root_key
from mdm_jax.training.denoiser import init_params
from mdm_jax.training.losses import CanvasIds, TokenBatch, denoising_loss
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import Params, TrainState, init_state, train_step
from mdm_jax.types import Count, RowKey

HORIZON = 10**9  # updates of the learning rate's schedule, which is then constant
PLACES = ("embedding", "attention", "MLP", "logits")
Changes = Float[Array, "updates places"]


@dataclass(frozen=True)
class Check:
    """What is the same for all sizes.

    Attributes:
      batch: clean sequences; every update sees them, at masks of its own.
      vocab_size: ids that can be produced.
      ids: MASK and padding.
      optimizer: tuned at the base shape.
      updates: made one after another.
      seeds: of weights and masks; the mean over them counts.
    """

    batch: TokenBatch
    vocab_size: int
    ids: CanvasIds
    optimizer: OptimizerConfig
    updates: int = 8
    seeds: int = 4


def changes(config: TransformerConfig, check: Check) -> Changes:
    """RMS of h(t) - h(0) after each update t, at `PLACES`: over sequences, blocks and seeds.

    Activations are those on the unmasked sequences.
    """
    module = Transformer(config, check.vocab_size)
    optimizer = make_optimizer(check.optimizer, HORIZON, config)
    loss = partial(
        denoising_loss,
        module=module,
        objective=AnyOrder(),
        times=stratified_times,
        ids=check.ids,
    )
    step = partial(train_step, batch=check.batch, loss=loss, optimizer=optimizer)

    def one_seed(key: RowKey) -> Changes:
        k_init, k_updates = jax.random.split(key)
        params = init_params(module, k_init, check.batch.tokens.shape[1], check.ids.mask)
        first = activations(module, params, check)

        def update(state: TrainState, index: Count) -> tuple[TrainState, Float[Array, " places"]]:
            state, _ = step(state, jax.random.fold_in(k_updates, index))
            now = activations(module, state.params, check)
            return state, jnp.stack(
                [jnp.mean((a - b) ** 2) for a, b in zip(now, first, strict=True)]
            )

        start = init_state(params, optimizer)
        return jax.lax.scan(update, start, jnp.arange(check.updates))[1]

    keys = row_keys(root_key(0), jnp.arange(check.seeds))
    return jnp.sqrt(jnp.mean(jax.jit(jax.vmap(one_seed))(keys), axis=0))


def activations(module: Transformer, params: Params, check: Check) -> tuple[Array, ...]:
    """What the embedding, attention and MLP branches and the unembedding give, at `PLACES`."""

    def one(tokens: Array) -> tuple[Array, ...]:
        _, kept = module.apply(
            {"params": params},
            tokens,
            tokens != check.ids.pad,
            capture_intermediates=True,
            mutable=["intermediates"],
        )
        kept = kept["intermediates"]
        blocks = [kept[f"block_{i}"] for i in range(module.config.depth)]
        attention = jnp.stack([block["attention"]["__call__"][0] for block in blocks])
        mlp = jnp.stack([block["down"]["__call__"][0] for block in blocks])
        return kept["embed"]["__call__"][0], attention, mlp, kept["unembed"]["__call__"][0]

    return jax.vmap(one)(check.batch.tokens)


class Slope(NamedTuple):
    """How the change at one place grows with a size, after one update: RMS ~ size^slope."""

    place: str
    update: int
    slope: float


def slopes(found: Mapping[int, Changes], after: int = 2) -> list[Slope]:
    """By least squares in logs, for every place and each update from `after` on.

    Args:
      found: changes by size; two sizes at least.
    """
    sizes = sorted(found)
    logs = np.log(np.stack([np.asarray(found[size]) for size in sizes]))
    x = np.log(sizes) - np.mean(np.log(sizes))
    by_place = np.einsum("s,sup->up", x, logs) / np.sum(x**2)
    updates: Sequence[int] = range(after, len(by_place) + 1)
    return [
        Slope(place, update, float(by_place[update - 1, column]))
        for column, place in enumerate(PLACES)
        for update in updates
    ]
