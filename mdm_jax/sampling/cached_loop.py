"""The sampler's loop with a cache of keys and values, block by block (Fast-dLLM, arXiv:2505.22618).

A row's first call in a block, and every `refresh`-th after it, is a full one, which reveals like any
other and leaves a cache behind. The calls in between compute a slice of the canvas anew against it.

Rows walk the blocks in lock-step: a round is one full call and the cached calls that follow it, and
only rows in the first unfinished block take part. Whoever is done with the block, or due for a full
call, waits for the next round, and waiting costs no call. So a slice has the same length in all rows,
the cache need not outlive a round, and what a row does never depends on its neighbours. Between full
calls a policy sees new logits of the current block; those of other positions, if it looks at them, stay
as they were.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Key

from mdm_jax.denoisers.base import DenoiseCached, KVCache
from mdm_jax.policies.base import Policy
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.step import (
    Outputs,
    Positions,
    RowContext,
    RowState,
    apply_logit_mask,
    enter_block,
    finish,
    places_shown,
    reveal_step,
    shows_block_alone,
    wants_hidden,
)
from mdm_jax.types import Count, RowKey, Trace

Rows = Bool[Array, " batch"]


class Seen(NamedTuple):
    """What the denoiser has computed of one row's canvas, and what it says of the places shown."""

    kv_cache: KVCache
    outputs: Outputs


class Walk(NamedTuple):
    """What cached calls change, of all rows."""

    rows: RowState
    trace: Trace | None  # [batch, budget, ...]
    seen: Seen


def sample_in_rounds(
    keys: Key[Array, " batch"],
    rows: RowState,
    context: RowContext,
    trace: Trace | None,
    *,
    denoise: DenoiseCached,
    policy: Policy,
    config: SamplerConfig,
) -> tuple[RowState, Trace | None]:
    """Complete all rows, `config.cache` saying what is computed anew and when.

    Args:
      keys: one per row; call number s of a row uses fold_in(key, s).
      rows, fixed: as `prepare` made them, with a leading batch axis.
      trace: blank, [budget, batch, ...].

    Returns:
      The finished rows, and the trace.
    """
    full = jax.vmap(partial(_full_call, denoise=denoise, policy=policy, config=config))
    reveal = partial(_reveal_all, denoise=denoise, policy=policy, config=config)

    def cached_calls(walk: Walk, block: Count, length: int) -> Walk:
        extend = partial(_cached_call, length=length, denoise=denoise, policy=policy, config=config)
        extend_all = jax.vmap(extend, in_axes=(0, 0, 0, None))

        def advance(walk: Walk) -> Walk:
            seen = extend_all(walk.rows, context, walk.seen, block)
            acting = _inside(walk.rows, block, config)
            rows, trace = reveal(keys, walk.rows, context, seen, acting, walk.trace)
            return Walk(rows, trace, seen)

        return jax.lax.while_loop(
            lambda walk: jnp.any(_inside(walk.rows, block, config)), advance, walk
        )

    def one_round(carry: tuple[RowState, Trace | None]) -> tuple[RowState, Trace | None]:
        rows, trace = carry
        unfinished = _unfinished(rows, config)
        block = jnp.min(jnp.where(unfinished, rows.block, rows.window.shape[1]))
        seen = full(rows, context)
        acting = unfinished & (rows.block == block)
        rows, trace = reveal(keys, rows, context, seen, acting, trace)
        walks = [partial(cached_calls, length=n) for n in _slice_lengths(rows, config)]
        walk = jax.lax.switch(block, walks, Walk(rows, trace, seen), block)
        return walk.rows, walk.trace

    rows = jax.vmap(lambda row: enter_block(row, config))(rows)
    by_row = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), trace)
    rows, by_row = jax.lax.while_loop(
        lambda carry: jnp.any(_unfinished(carry[0], config)), one_round, (rows, by_row)
    )
    return rows, jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), by_row)


def _slice_lengths(rows: RowState, config: SamplerConfig) -> list[int]:
    """How much is computed anew in each block; a single number where it is the same in all."""
    window = rows.window.shape[1]
    block_length = config.block_length or window
    if config.cache == "dual":
        return [block_length]
    return list(range(window, 0, -block_length))


def _unfinished(rows: RowState, config: SamplerConfig) -> Rows:
    masked = jnp.any(rows.window == config.mask_id, axis=1)
    return masked & (rows.nfe < config.budget)


def _inside(rows: RowState, block: Count, config: SamplerConfig) -> Rows:
    """Rows that are in the midst of a round, with a cache of their own to go on with."""
    refresh = config.budget if config.refresh is None else config.refresh
    positions = _unfinished(rows, config) & (rows.block == block)
    return positions & (rows.block_step % refresh != 0)


def _full_call(
    row: RowState,
    context: RowContext,
    *,
    denoise: DenoiseCached,
    policy: Policy,
    config: SamplerConfig,
) -> Seen:
    """Everything computed anew."""
    kv_cache = denoise.prefill(finish(row, context), context.canvas != config.pad_id)
    positions = places_shown(row, policy, config, everything=False)
    return Seen(
        kv_cache, _read(kv_cache, positions, context, denoise=denoise, policy=policy, config=config)
    )


def _cached_call(
    row: RowState,
    context: RowContext,
    seen: Seen,
    block: Count,
    *,
    length: int,
    denoise: DenoiseCached,
    policy: Policy,
    config: SamplerConfig,
) -> Seen:
    """`length` positions from the start of the block computed anew, and the block's outputs."""
    block_length = config.block_length or len(row.window)
    begin = block * block_length
    tokens = jax.lax.dynamic_slice(row.window, (begin,), (length,))
    kv_cache = denoise.extend(
        tokens, context.start + begin, context.canvas != config.pad_id, seen.kv_cache
    )
    positions = begin + jnp.arange(block_length)
    fresh = _read(kv_cache, positions, context, denoise=denoise, policy=policy, config=config)
    if shows_block_alone(policy, config):
        return Seen(kv_cache, fresh)
    outputs = jax.tree.map(
        lambda old, new: jax.lax.dynamic_update_slice(old, new, (begin, 0)), seen.outputs, fresh
    )
    return Seen(kv_cache, outputs)


def _read(
    kv_cache: KVCache,
    positions: Positions,
    context: RowContext,
    *,
    denoise: DenoiseCached,
    policy: Policy,
    config: SamplerConfig,
) -> Outputs:
    """What a policy wants of some positions of the window, off what was computed of them."""
    logits, hidden = denoise.read(kv_cache, context.start + positions)
    return Outputs(apply_logit_mask(logits, config), hidden if wants_hidden(policy) else None)


def _reveal_all(
    keys: Key[Array, " batch"],
    rows: RowState,
    context: RowContext,
    seen: Seen,
    acting: Rows,
    trace: Trace | None,
    *,
    denoise: DenoiseCached,
    policy: Policy,
    config: SamplerConfig,
) -> tuple[RowState, Trace | None]:
    """One step of the rows that take part. A row at its last permitted call reveals all that is left,
    so it looks at all of it.
    """
    reveal = jax.vmap(partial(_reveal, policy=policy, config=config))
    places = partial(places_shown, policy=policy, config=config)
    positions = jax.vmap(partial(places, everything=False))(rows)
    if not (config.commit and shows_block_alone(policy, config)):
        return reveal(keys, rows, context, seen.outputs, positions, acting, trace)
    last = acting & (rows.nfe == config.budget - 1)

    def commit(rows: RowState, trace: Trace | None) -> tuple[RowState, Trace | None]:
        positions = jax.vmap(partial(places, everything=True))(rows)
        read = jax.vmap(partial(_read, denoise=denoise, policy=policy, config=config))
        return reveal(
            keys, rows, context, read(seen.kv_cache, positions, context), positions, last, trace
        )

    after = reveal(keys, rows, context, seen.outputs, positions, acting & ~last, trace)
    return jax.lax.cond(jnp.any(last), commit, lambda *same: same, *after)


def _reveal(
    key: RowKey,
    row: RowState,
    context: RowContext,
    outputs: Outputs,
    positions: Positions,
    acting: Bool[Array, ""],
    trace: Trace | None,
    *,
    policy: Policy,
    config: SamplerConfig,
) -> tuple[RowState, Trace | None]:
    """One step of a row that takes part; any other stays as it is."""
    step = row.nfe
    after, now = reveal_step(
        key, row, context, step, outputs, positions, policy=policy, config=config
    )
    after = enter_block(after, config)
    place = jnp.where(acting, step, config.budget)  # a step beyond the budget is not recorded
    trace = jax.tree.map(lambda all_, one: all_.at[place].set(one, mode="drop"), trace, now)
    return jax.tree.map(lambda new, old: jnp.where(acting, new, old), after, row), trace
