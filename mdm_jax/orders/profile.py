"""h(k): how uncertain a position is once k random others are revealed."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mdm_jax.chunks import map_rows
from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import apply_mask
from mdm_jax.diffusion.elbo import token_nll
from mdm_jax.orders.variational.model import Sequence, SpecialIds
from mdm_jax.policies.base import entropy, rank
from mdm_jax.types import RowKey


def reveal_profile(
    keys: Key[Array, " n"],
    sequences: Sequence,
    denoise: Denoise,
    count: int,
    ids: SpecialIds,
    exact: bool = False,
) -> Float[Array, "n count"]:
    """An estimate of h(k) = E[-log p(x_j | x_S)] from each sequence, S random of size k, j outside of S.

    One denoiser call for each k, on one random order of each sequence. Their mean is unbiased, and
    `counts.optimal_counts` turns it into the best number of positions for every call.

    Args:
      keys: one per sequence.
      sequences: leading axis [n]; what is not maskable is revealed from the start.
      count: maskable positions, the same in every sequence.
      ids: of MASK and PAD.
      exact: the denoiser's conditionals are exact: their entropy has the same mean as the loss of the
        token, and less noise.
    """

    def one(key: RowKey, sequence: Sequence) -> Float[Array, " count"]:
        k_order, k_ties = jax.random.split(key)
        noise = jax.random.uniform(k_order, sequence.tokens.shape, jnp.float32)
        ranks = rank(k_ties, noise, sequence.maskable)
        at = partial(_mean_loss, sequence, ranks, denoise, ids, exact)
        return jax.lax.map(at, jnp.arange(count))

    return map_rows(lambda row: one(*row), (keys, sequences), 512)


def _mean_loss(
    sequence: Sequence,
    ranks: Int[Array, " length"],
    denoise: Denoise,
    ids: SpecialIds,
    exact: bool,
    revealed: Int[Array, ""],
) -> Float[Array, ""]:
    """Mean over the masked positions when the first `revealed` of an order are shown."""
    is_masked = sequence.maskable & (ranks >= revealed)
    canvas = apply_mask(sequence.tokens, is_masked, ids.mask_id)
    logits = denoise(canvas, canvas != ids.pad_id)
    loss = entropy(logits) if exact else token_nll(logits, sequence.tokens)
    return jnp.sum(jnp.where(is_masked, loss, 0.0)) / jnp.sum(is_masked)
