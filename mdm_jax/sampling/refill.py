"""Sampling in which finished rows make room for others, so that few denoiser calls are spent on them.

`begin` prepares a batch of rows, `advance` puts some of them in place of finished ones and steps until
enough have finished. Every row counts its own steps, so its result is that of `sample`, whatever shared
the batch with it.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from mdm_jax.denoisers.guidance import passes_per_call
from mdm_jax.sampling.commit import last_step
from mdm_jax.sampling.loop import prepared, with_guidance
from mdm_jax.sampling.rows import RowContext, RowState, Sampler, shows_block_only, whole_canvas
from mdm_jax.sampling.step import denoise_step
from mdm_jax.types import Count, Rollout

Rows = Bool[Array, " batch"]  # which rows


class Running(NamedTuple):
    """Rows that are being completed; leading axis [batch]."""

    rows: RowState
    context: RowContext  # without the keys, which `advance` is given anew
    step: Int[Array, " batch"]  # how many the row has made
    calls: Int[Array, " batch"]  # denoiser calls of the batch since the row is in it


def begin(
    sampler: Sampler, keys: Key[Array, " batch"], canvases: Int[Array, "batch length"]
) -> Running:
    """Rows before their first step.

    Raises:
      MdmError: see `sample`.
    """
    _, rows, context = prepared(sampler, keys, canvases)
    zeros = jnp.zeros(len(keys), jnp.int32)
    return Running(rows, context._replace(key=None), zeros, zeros)


def advance(
    sampler: Sampler,
    keys: Key[Array, " batch"],
    canvases: Int[Array, "batch length"],
    running: Running,
    is_new: Rows,
    free: Count,
) -> tuple[Running, Rollout, Rows]:
    """Step all rows until at least `free` of them have finished.

    Args:
      sampler: without a cache, under which rows share their blocks, and without a trace.
      keys: of all rows.
      canvases: what each row starts or started from.
      running: rows of `begin`, or of an earlier call.
      is_new: rows that begin now, in place of those of `running`.

    Returns:
      The rows, what they have come to (without a trace), and which have finished.
    """
    replace = jax.vmap(lambda new, *both: jax.tree.map(partial(jnp.where, new), *both))
    running = replace(is_new, begin(sampler, keys, canvases), running)
    sampler = with_guidance(sampler)
    running = jax.lax.while_loop(
        lambda state: jnp.sum(~_unfinished(sampler, state)) < free,
        partial(_step, sampler, keys),
        running,
    )
    rows = running.rows
    canvases = jax.vmap(whole_canvas)(rows, running.context)
    calls = jnp.maximum(running.calls, rows.nfe)  # a policy's own calls included
    passes = calls * passes_per_call(sampler.denoise)
    found = Rollout(canvases, rows.nfe, None, rows.revealed_at, passes, rows.finite)
    return running, found, ~_unfinished(sampler, running)


def _step(sampler: Sampler, keys: Key[Array, " batch"], running: Running) -> Running:
    """One denoiser call of the batch. Rows at a last permitted call that is a program of its own go
    first, and the others wait.
    """
    config, acting = sampler.config, _unfinished(sampler, running)
    rows, context, step = running.rows, running.context._replace(key=keys), running.step
    if config.commit and shows_block_only(sampler):
        last = acting & (step == config.budget - 1)
        some = jnp.any(last)
        acting = jnp.where(some, last, acting)
        kinds = (partial(_step_some, sampler, kind) for kind in (last_step, denoise_step))
        rows = jax.lax.cond(some, *kinds, rows, context, step, acting)
    else:
        rows = _step_some(sampler, denoise_step, rows, context, step, acting)
    return Running(rows, running.context, step + acting, running.calls + 1)


def _step_some(
    sampler: Sampler,
    kind: Callable,
    rows: RowState,
    context: RowContext,
    step: Int[Array, " batch"],
    acting: Rows,
) -> RowState:
    """A step of the rows that are acting; the others are as they were."""

    def one(row: RowState, context: RowContext, step: Count, acts: Bool[Array, ""]) -> RowState:
        after, _ = kind(sampler, row, context, step)
        return jax.tree.map(partial(jnp.where, acts), after, row)

    return jax.vmap(one)(rows, context, step, acting)


def _unfinished(sampler: Sampler, running: Running) -> Rows:
    """Rows with a masked position and a step left."""
    is_masked = running.rows.window == sampler.config.mask_id
    return jnp.any(is_masked, axis=1) & (running.step < sampler.config.budget)
