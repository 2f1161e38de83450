"""Several samples in one row of a batch, so that no position is spent on padding."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.denoisers.packed import Packed
from mdm_jax.diffusion.elbo import token_nll
from mdm_jax.errors import MdmError
from mdm_jax.types import Tokens

SIZES = 32  # numbers of rows that a batch may be packed into: each is compiled once


def pack(
    tokens: Int[np.ndarray, "batch length"], pad_id: int, row_length: int, multiple: int = 1
) -> Int[np.ndarray, "rows row_length"]:
    """The source of each packed position: sample * length + place, or -1 where there is none.

    Samples without their PAD, the longest first, each into the first row that it fits into. A function of
    its arguments alone.

    Args:
      multiple: the number of rows is one of this, and of a 32nd of the batch.

    Raises:
      MdmError: a sample is longer than a row.
    """
    kept = tokens != pad_id
    counts, rows = kept.sum(axis=1), []
    if counts.max(initial=0) > row_length:
        raise MdmError(f"pack {row_length} is less than the {counts.max()} tokens of a sequence")
    for sample in np.argsort(-counts, kind="stable"):
        places = sample * tokens.shape[1] + np.flatnonzero(kept[sample])
        fitting = (row for row in rows if len(row) + len(places) <= row_length)
        row = next(fitting, None)
        if row is None:
            rows.append(row := [])
        row.extend(places)
    unit = multiple * max(1, len(tokens) // (SIZES * multiple))
    source = np.full((-(-len(rows) // unit) * unit, row_length), -1, np.int32)
    for number, row in enumerate(rows):
        source[number, : len(row)] = row
    return source


def packed_nll(
    params: Any,
    tokens: Int[Array, "batch length"],
    masks: Bool[Array, "batch length"],
    source: Int[Array, "rows row_length"],
    *,
    module: nn.Module,
    mask_id: int,
) -> Float[Array, "batch length"]:
    """`canvas_nll` of every sample of a batch, from rows that are packed as `source` says."""
    at, there = jnp.maximum(source, 0), source >= 0
    packed = Packed(jnp.where(there, at // tokens.shape[1], -1), at % tokens.shape[1])
    counts, clean = masks.ravel()[at] & there, jnp.where(there, tokens.ravel()[at], mask_id)
    canvases = jnp.where(counts, mask_id, clean)

    def row_nll(canvas: Tokens, there: Array, packed: Packed, wanted: Tokens) -> Array:
        logits = module.apply({"params": params}, canvas, there, None, packed)
        return token_nll(logits, wanted)

    nll = jax.vmap(row_nll)(canvases, there, packed, jnp.where(counts, clean, 0))
    found = jnp.zeros(tokens.size, jnp.float32).at[at].add(jnp.where(counts, nll, 0.0))
    return found.reshape(tokens.shape)
