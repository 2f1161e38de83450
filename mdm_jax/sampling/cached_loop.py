"""The sampler's loop with a cache of keys and values, block by block (Fast-dLLM, arXiv:2505.22618).

A row's first call in a block, and every `refresh`-th after it, is a full call: it computes the whole
canvas and fills the cache. The calls in between compute only a slice of the canvas against the cache.

Rows run through the blocks in lock-step: a round is one full call and the cached calls that follow it,
and only rows in the first unfinished block take part. A row that has finished the block, or whose next
call must be a full one, waits for the next round; waiting costs no call. So the slice has the same length
in all rows, the cache need not outlive a round, and a row never depends on the other rows. Between full
calls a policy sees new logits of the current block; those of other positions, if it is shown them, are
those of the last full call.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from mdm_jax.denoisers.base import KVCache
from mdm_jax.sampling.commit import commit_step
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.outputs import Outputs, read_outputs
from mdm_jax.sampling.rows import (
    RowContext,
    RowState,
    Sampler,
    enter_block,
    shown_positions,
    shows_block_only,
    whole_canvas,
)
from mdm_jax.sampling.step import reveal_step
from mdm_jax.types import Count, Trace

MOST_BRANCHES = 8

Rows = Bool[Array, " batch"]  # which rows
Progress = tuple[RowState, Trace | None]  # the trace: [batch, budget, ...]
Calls = tuple[Count, Progress]  # how many denoiser calls the batch has executed, and what they gave


class Cached(NamedTuple):
    """What the denoiser has computed of one row's canvas, and its outputs for the policy."""

    kv_cache: KVCache
    outputs: Outputs | None  # None between calls that compute all of them anew


def sample_cached(
    sampler: Sampler, rows: RowState, context: RowContext, trace: Trace | None
) -> tuple[Count, RowState, Trace | None]:
    """Complete all rows; `config.cache` says what is computed anew and when.

    Args:
      rows, context: of `prepare`, with a leading batch axis.
      trace: zeros, [budget, batch, ...].

    Returns:
      How many calls the batch executed, the finished rows, and the trace.
    """
    config = sampler.config
    rows = jax.vmap(lambda row: enter_block(row, config))(rows)
    by_row = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), trace)
    calls, (rows, by_row) = jax.lax.while_loop(
        lambda carry: jnp.any(_unfinished(carry[1][0], config)),
        partial(_round, sampler, context),
        (jnp.zeros((), jnp.int32), (rows, by_row)),
    )
    return calls, rows, jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), by_row)


def _round(sampler: Sampler, context: RowContext, carry: Calls) -> Calls:
    """One full call of the rows in the first unfinished block, then cached calls until none of them
    can go on without a full one.
    """
    calls, progress = carry
    rows = progress[0]
    unfinished = _unfinished(rows, sampler.config)
    block = jnp.min(jnp.where(unfinished, rows.block, rows.window.shape[1]))
    cached = jax.vmap(partial(_full_call, sampler))(rows, context)
    acting = unfinished & (rows.block == block)
    progress = _reveal_all(sampler, context, cached, acting, progress)
    return _cached_calls(sampler, context, cached, (calls + 1, progress), block)


def _cached_calls(
    sampler: Sampler, context: RowContext, cached: Cached, carry: Calls, block: Count
) -> Calls:
    """Cached calls that compute a slice, while any row can make one."""
    call_all = jax.vmap(partial(_cached_call, sampler), in_axes=(0, 0, 0, None))
    kept = _blank if _reads_all(sampler, carry[1][0]) else lambda cached: cached

    def advance(carry: tuple[Cached, Calls]) -> tuple[Cached, Calls]:
        cached, (calls, progress) = carry
        cached = call_all(progress[0], context, cached, block)
        acting = _may_use_cache(progress[0], block, sampler.config)
        return kept(cached), (calls + 1, _reveal_all(sampler, context, cached, acting, progress))

    return jax.lax.while_loop(
        lambda carry: jnp.any(_may_use_cache(carry[1][1][0], block, sampler.config)),
        advance,
        (kept(cached), carry),
    )[1]


def _reads_all(sampler: Sampler, rows: RowState) -> bool:
    """Whether a cached call computes all outputs that the policy is shown."""
    one_block = sampler.config.block_length in (None, rows.window.shape[-1])
    return one_block or shows_block_only(sampler)


def _blank(cached: Cached) -> Cached:
    return cached._replace(outputs=None)


def _slices(window: int, config: SamplerConfig) -> tuple[int, list[int]]:
    """How many blocks share a slice, and how many positions cached calls compute in each slice.

    `dual` computes the block, `prefix` all from the block on; where there are more than `MOST_BRANCHES`
    blocks, some positions before it too, whose cache stays as it is.
    """
    block_length = config.block_length or window
    if config.cache == "dual":
        return 1, [block_length]
    shared = -(-window // block_length // MOST_BRANCHES)
    return shared, list(range(window, 0, -block_length * shared))


def _unfinished(rows: RowState, config: SamplerConfig) -> Rows:
    masked = jnp.any(rows.window == config.mask_id, axis=1)
    return masked & (rows.nfe < config.budget)


def _may_use_cache(rows: RowState, block: Count, config: SamplerConfig) -> Rows:
    """Rows in this block whose next call is not a full one."""
    refresh = config.budget if config.refresh is None else config.refresh
    in_block = _unfinished(rows, config) & (rows.block == block)
    return in_block & (rows.block_step % refresh != 0)


def _full_call(sampler: Sampler, row: RowState, context: RowContext) -> Cached:
    """The whole canvas computed."""
    valid = context.canvas != sampler.config.pad_id
    kv_cache = sampler.denoise.prefill(whole_canvas(row, context), valid)
    return Cached(kv_cache, read_outputs(sampler, context, kv_cache, shown_positions(sampler, row)))


def _cached_call(
    sampler: Sampler, row: RowState, context: RowContext, cached: Cached, block: Count
) -> Cached:
    """A slice from the start of the block computed, and the outputs of the block."""
    block_length = sampler.config.block_length or len(row.window)
    begin = block * block_length
    valid = context.canvas != sampler.config.pad_id

    shared, lengths = _slices(len(row.window), sampler.config)
    early = block % shared * block_length if shared > 1 else 0  # so much before the block it begins

    def extend(length: int, kv_cache: KVCache) -> KVCache:
        tokens = jax.lax.dynamic_slice(row.window, (begin - early,), (length,))
        start = context.start + begin - early
        return sampler.denoise.extend(tokens, start, valid, kv_cache, early)

    # a branch for each length holds the network alone: the rest of a step is compiled once
    branches = [partial(extend, length) for length in lengths]
    kv_cache = jax.lax.switch(block // shared, branches, cached.kv_cache)
    new = read_outputs(
        sampler, context, kv_cache, begin + jnp.arange(block_length, dtype=jnp.int32)
    )
    if _reads_all(sampler, row):
        return Cached(kv_cache, new)
    old = cached.outputs
    logits, hidden = jax.tree.map(
        lambda whole, part: jax.lax.dynamic_update_slice_in_dim(whole, part, begin, axis=0),
        (old.logits, old.hidden),
        (new.logits, new.hidden),
    )
    return Cached(kv_cache, old._replace(logits=logits, hidden=hidden))


def _reveal_all(
    sampler: Sampler, context: RowContext, cached: Cached, acting: Rows, progress: Progress
) -> Progress:
    """One step of the acting rows. A row at its last permitted call reveals all that is masked, so it
    needs the outputs of the whole window.
    """
    rows, config = progress[0], sampler.config
    reveal = jax.vmap(partial(_reveal, sampler))
    if not (config.commit and shows_block_only(sampler)):
        return reveal(context, cached.outputs, acting, progress)
    last = acting & (rows.nfe == config.budget - 1)
    commit = partial(jax.vmap(partial(_commit, sampler)), context, cached.kv_cache, last)
    progress = reveal(context, cached.outputs, acting & ~last, progress)
    return jax.lax.cond(jnp.any(last), commit, lambda same: same, progress)


def _reveal(
    sampler: Sampler,
    context: RowContext,
    outputs: Outputs,
    acting: Bool[Array, ""],
    progress: Progress,
) -> Progress:
    """One step of a row; it changes only if `acting`."""
    row = progress[0]
    after, entry = reveal_step(sampler, row, context, row.nfe, outputs)
    return _taken(sampler.config, acting, progress, enter_block(after, sampler.config), entry)


def _commit(
    sampler: Sampler,
    context: RowContext,
    kv_cache: KVCache,
    acting: Bool[Array, ""],
    progress: Progress,
) -> Progress:
    """The last permitted call of a row; it changes only if `acting`."""
    row, read = progress[0], partial(read_outputs, sampler, context, kv_cache)
    after, entry = commit_step(sampler, row, context, row.nfe, read)
    return _taken(sampler.config, acting, progress, after, entry)


def _taken(
    config: SamplerConfig,
    acting: Bool[Array, ""],
    before: Progress,
    after: RowState,
    entry: Trace | None,
) -> Progress:
    """A step added to what a row has made, if it is acting."""
    row, trace = before
    step = jnp.where(acting, row.nfe, config.budget)  # beyond the budget: not recorded
    trace = jax.tree.map(lambda all_, one: all_.at[step].set(one, mode="drop"), trace, entry)
    return jax.tree.map(lambda new, old: jnp.where(acting, new, old), after, row), trace
