"""The last permitted call of one sequence, which reveals all that is masked.

Where the other calls compute logits of a block, this one needs those of the whole window. It is one
denoiser call, unembedded a block at a time: no more logits are in memory than at the other calls.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mdm_jax.denoisers.base import is_split
from mdm_jax.policies.base import wants_verifier
from mdm_jax.sampling.outputs import Outputs, call_denoiser, read_outputs
from mdm_jax.sampling.rows import (
    Positions,
    RowContext,
    RowState,
    Sampler,
    enter_block,
    shown_positions,
    whole_canvas,
)
from mdm_jax.sampling.step import all_finite, observe, reveal, shown_entries, trace_entry
from mdm_jax.types import Count, Decision, Trace

Read = Callable[[Positions], Outputs]  # the outputs at some positions of one denoiser call


def last_step(
    sampler: Sampler, row: RowState, context: RowContext, step: Count
) -> tuple[RowState, Trace | None]:
    """`denoise_step`, but all that is masked is revealed."""
    row = enter_block(row, sampler.config)
    return commit_step(sampler, row, context, step, _one_call(sampler, row, context))


def commit_step(
    sampler: Sampler, row: RowState, context: RowContext, step: Count, read: Read
) -> tuple[RowState, Trace | None]:
    """Everything that is masked revealed from the outputs of one denoiser call, a block at a time.

    The policy is not asked, and records nothing.
    """
    config, length = sampler.config, len(row.window)
    k_token, _ = jax.random.split(jax.random.fold_in(context.key, step))
    size = config.block_length or length

    def block(start: Count) -> tuple[Any, ...]:
        outputs = read(start + jnp.arange(size, dtype=jnp.int32))
        seen = observe(k_token, row, context, step, outputs, config)
        shown = shown_entries(seen, _all_of(seen.is_masked)) if config.record else None
        return seen.proposal, all_finite(outputs.logits, seen.is_masked), shown

    found = jax.lax.map(block, jnp.arange(0, length, size, dtype=jnp.int32))
    proposal, shown = jax.tree.map(lambda x: x.reshape(length, *x.shape[2:]), found[::2])
    window = jnp.arange(length, dtype=jnp.int32)
    decision = _all_of(row.window == config.mask_id)
    after = reveal(decision, proposal, step, row, context, window, config)
    after = after._replace(finite=row.finite & jnp.all(found[1]))
    if not config.record:
        return after, None
    return after, trace_entry(shown, None, row, window, config)


def _all_of(is_masked: jax.Array) -> Decision:
    return Decision(unmask=is_masked, remask=jnp.zeros_like(is_masked))


def _one_call(sampler: Sampler, row: RowState, context: RowContext) -> Read:
    """Outputs of one denoiser call; where it cannot be split, all of them are computed first."""
    if is_split(sampler.denoise) and not wants_verifier(sampler.policy):
        valid = context.canvas != sampler.config.pad_id
        computed = sampler.denoise.prefill(whole_canvas(row, context), valid)
        return lambda positions: read_outputs(sampler, context, computed, positions)
    window = shown_positions(sampler, row, whole_window=True)
    whole = call_denoiser(sampler, row, context, window)
    return lambda positions: jax.tree.map(lambda x: x[positions], whole)
