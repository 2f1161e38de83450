"""The state of one sequence (one row of the batch) while it is sampled."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from mdm_jax.denoisers.base import Denoise
from mdm_jax.policies.base import Clock, Policy, wants_window
from mdm_jax.sampling.canvas import block_ids, count_blocks, current_block, window_start
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.types import Count, Mask, RowKey, Tokens

Positions = Int[Array, " shown"]  # positions of the window


class Sampler(NamedTuple):
    """What is the same for all rows and steps."""

    denoise: Denoise
    policy: Policy
    config: SamplerConfig


class RowContext(NamedTuple):
    """What stays the same in one row from step to step."""

    key: RowKey
    canvas: Tokens  # the whole canvas at the start
    start: Count  # where the window begins
    response: Mask  # window positions that are generated
    num_blocks: Count


class RowState(NamedTuple):
    """What changes in one row from step to step; arrays are of the window, [length]."""

    window: Tokens
    revealed_at: Tokens  # step of each position's last reveal; -1 while it is masked
    closed: Mask  # positions that are EOS only because an EOS precedes them
    nfe: Count
    block: Count  # index of the current block
    block_step: Count  # denoiser calls already spent on it
    block_masks: Count  # its masked positions when it was entered
    finite: Bool[Array, ""]  # whether all logits of masked positions have been finite
    state: Any  # the policy's memory


def prepare(sampler: Sampler, key: RowKey, canvas: Tokens) -> tuple[RowState, RowContext]:
    """The state of a row before its first step, and its context."""
    config = sampler.config
    length = canvas.shape[0] if config.gen_length is None else config.gen_length
    start = window_start(canvas, config.mask_id, length)
    window = jax.lax.dynamic_slice(canvas, (start,), (length,))
    response = window == config.mask_id
    num_blocks = count_blocks(response, block_ids(length, config.block_length))
    zero = jnp.zeros((), jnp.int32)
    never = jnp.full((length,), -1, jnp.int32)
    closed, finite = jnp.zeros((length,), bool), jnp.ones((), bool)
    memory = sampler.policy.init(length)
    row = RowState(window, never, closed, zero, zero - 1, zero, zero, finite, memory)
    return row, RowContext(key, canvas, start, response, num_blocks)


def clock_of(row: RowState, context: RowContext) -> Clock:
    """How far a row is, after `enter_block`."""
    return Clock(row.block_step, context.num_blocks)


def whole_canvas(row: RowState, context: RowContext) -> Tokens:
    """The canvas with the window as it is now."""
    return jax.lax.dynamic_update_slice(context.canvas, row.window, (context.start,))


def enter_block(row: RowState, config: SamplerConfig) -> RowState:
    """The row with `block` up to date, and the block's counters restarted if it has changed."""
    is_masked = row.window == config.mask_id
    blocks = block_ids(is_masked.shape[0], config.block_length)
    block = current_block(is_masked, blocks)
    entered = block != row.block
    return row._replace(
        block=block,
        block_step=jnp.where(entered, 0, row.block_step),
        block_masks=jnp.where(
            entered, jnp.sum(is_masked & (blocks == block), dtype=jnp.int32), row.block_masks
        ),
    )


def shown_positions(sampler: Sampler, row: RowState, whole_window: bool = False) -> Positions:
    """The window positions that the policy is shown; logits are computed at these and no others.

    They are the current block if `shows_block_only` and not `whole_window`, else the window.
    """
    length = len(row.window)
    if whole_window or not shows_block_only(sampler):
        return jnp.arange(length, dtype=jnp.int32)
    return block_positions(row, sampler.config)


def block_positions(row: RowState, config: SamplerConfig) -> Positions:
    """The window positions of the current block."""
    length = len(row.window)
    size = config.block_length or length
    return jnp.minimum(row.block * size, length - size) + jnp.arange(size, dtype=jnp.int32)


def shows_block_only(sampler: Sampler) -> bool:
    """Whether the policy is shown the current block instead of the window.

    Never with guidance, which takes the positions that logits are asked for to be the response.
    """
    config = sampler.config
    has_blocks = config.block_length is not None and not config.guidance
    return has_blocks and not wants_window(sampler.policy)
