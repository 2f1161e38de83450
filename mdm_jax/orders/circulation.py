"""Whether a denoiser's conditionals fit together: local circulation."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mdm_jax.chunks import map_rows
from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import apply_mask
from mdm_jax.diffusion.elbo import token_nll
from mdm_jax.orders.variational.model import Sequence, SpecialIds
from mdm_jax.policies.base import top
from mdm_jax.types import Count, Mask, RowKey, Scalar


class Circulation(NamedTuple):
    """Of a random pair of masked positions in each of some sequences."""

    nats: Float[Array, " n"]
    masked: Float[Array, " n"]  # share of the maskable positions that was masked
    distance: Int[Array, " n"]  # between the two positions

    @property
    def rms(self) -> Scalar:
        """Root mean square, nats: 0 for consistent conditionals."""
        return jnp.sqrt(jnp.mean(self.nats**2))


def pair_circulation(
    sequence: Sequence, is_masked: Mask, pair: Int[Array, " 2"], denoise: Denoise, ids: SpecialIds
) -> Scalar:
    """[log p(a_i) + log p(b_j | a_i)] - [log p(b_j) + log p(a_i | b_j)], all given what is shown, nats.

    The tokens a, b are those of the sequence. 0 for all pairs and canvases iff the conditionals are
    those of one distribution; the log-probabilities of two orders differ by a sum of such terms over
    swaps of neighbours. Three denoiser calls.

    Reference: arXiv:2605.09303.
    """
    tokens = sequence.tokens

    def losses(masked: Mask) -> Float[Array, " length"]:
        logits = denoise(apply_mask(tokens, masked, ids.mask_id), tokens != ids.pad_id)
        return token_nll(logits, tokens)

    i, j = pair
    both, without_i, without_j = map(
        losses, (is_masked, is_masked.at[i].set(False), is_masked.at[j].set(False))
    )
    return (both[j] + without_j[i]) - (both[i] + without_i[j])


def local_circulation(
    keys: Key[Array, " n"], sequences: Sequence, denoise: Denoise, ids: SpecialIds
) -> Circulation:
    """Circulation at a random canvas and pair for each sequence: a uniform number of masks, two or more.

    How much of what an order gains may be the denoiser's inconsistency instead of dependence.

    Args:
      keys: one per sequence.
      sequences: leading axis [n], each with two maskable positions or more.
    """

    def one(key: RowKey, sequence: Sequence) -> tuple[Scalar, Scalar, Count]:
        k_count, k_masked, k_pair, *k_ties = jax.random.split(key, 5)
        maskable, shape = sequence.maskable, sequence.tokens.shape
        count = jax.random.randint(k_count, (), 2, jnp.sum(maskable) + 1)
        noise = jax.random.uniform(k_masked, shape, jnp.float32)
        is_masked = top(k_ties[0], noise, maskable, count)
        chosen = top(k_ties[1], jax.random.uniform(k_pair, shape, jnp.float32), is_masked, 2)
        pair = jnp.nonzero(chosen, size=2)[0]
        nats = pair_circulation(sequence, is_masked, pair, denoise, ids)
        return nats, count / jnp.sum(maskable), pair[1] - pair[0]

    return Circulation(*map_rows(lambda row: one(*row), (keys, sequences), 512))
