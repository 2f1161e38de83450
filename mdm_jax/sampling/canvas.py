"""Parts of a canvas: where the response starts and ends, and its blocks."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from mdm_jax.errors import MdmError
from mdm_jax.types import Count, Mask, Tokens


def response_start(canvas: Tokens, mask_id: int) -> Count:
    """The first masked position: where the response begins when a prompt precedes it."""
    return jnp.argmax(canvas == mask_id).astype(jnp.int32)


def window_start(canvas: Tokens, mask_id: int, length: int) -> Count:
    """Where a window of `length` positions begins: at the response, or earlier if it does not fit."""
    return jnp.minimum(response_start(canvas, mask_id), canvas.shape[0] - length)


def block_ids(length: int, block_length: int | None) -> Int[Array, " length"]:
    """The index of each position's block; `block_length` None: a single block.

    Raises:
      MdmError: `block_length` does not divide `length`.
    """
    block_length = length if block_length is None else block_length
    if block_length < 1 or length % block_length:
        raise MdmError(
            f"block_length {block_length} does not divide the {length} generated positions; "
            f"choose one of {[n for n in range(1, length + 1) if length % n == 0]}"
        )
    return jnp.arange(length, dtype=jnp.int32) // block_length


def current_block(is_masked: Mask, blocks: Int[Array, " length"]) -> Count:
    """The first block with a masked position; an index past the last block if there is none."""
    return jnp.min(jnp.where(is_masked, blocks, is_masked.shape[0]))


def count_blocks(is_masked: Mask, blocks: Int[Array, " length"]) -> Count:
    """How many blocks have a masked position."""
    ids = jnp.arange(is_masked.shape[0])
    present = jnp.any((blocks[None, :] == ids[:, None]) & is_masked[None, :], axis=1)
    return jnp.sum(present, dtype=jnp.int32)


def before_eos(
    tokens: Int[Array | np.ndarray, " length"],
    is_response: Bool[Array | np.ndarray, " length"],
    eos_id: int,
) -> Mask:
    """Response positions before the first EOS of the response; all of them when it has none.

    The rule for where a response ends, shared by sampler, scorers and cost: it ends at its first
    EOS. While positions before that EOS are still masked, the end can move to an earlier position,
    never to a later one.
    """
    is_eos = jnp.asarray(is_response) & (jnp.asarray(tokens) == eos_id)
    return is_response & (jnp.cumsum(is_eos) == 0)


def after_eos(
    tokens: Int[Array | np.ndarray, " length"],
    is_response: Bool[Array | np.ndarray, " length"],
    eos_id: int,
) -> Mask:
    """Positions after the first EOS of the response; the EOS itself is not among them."""
    is_eos = jnp.asarray(is_response) & (jnp.asarray(tokens) == eos_id)
    return jnp.cumsum(is_eos) - is_eos > 0


def closed_by_eos(canvas: Tokens, is_response: Mask, mask_id: int, eos_id: int) -> Mask:
    """Masked positions after the first EOS of the response: they become EOS and cost nothing."""
    return after_eos(canvas, is_response, eos_id) & (canvas == mask_id)
