"""The forward process: which positions are masked, at which times."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from mdm_jax.types import Mask, RowKey, Tokens

Times = Float[Array, " batch"]


def uniform_times(key: RowKey, batch: int) -> Times:
    """Independent times in (0, 1]."""
    return 1.0 - jax.random.uniform(key, (batch,), jnp.float32)


def stratified_times(key: RowKey, batch: int) -> Times:
    """One time in each of `batch` equal strata of (0, 1]: t_b = (b + u_b) / batch.

    A mean over the batch has lower variance than with independent times. Reference: MDLM,
    arXiv:2406.07524.
    """
    offsets = 1.0 - jax.random.uniform(key, (batch,), jnp.float32)
    return (jnp.arange(batch, dtype=jnp.float32) + offsets) / batch


def antithetic_times(key: RowKey, batch: int) -> Times:
    """A common shift of an even grid: t_b = 1 - (u + b / batch) mod 1, one u for the batch.

    Reference: MD4, arXiv:2406.04329, section on variance reduction (after VDM).
    """
    offset, steps = jax.random.uniform(key, (), jnp.float32), jnp.arange(batch, dtype=jnp.float32)
    return 1.0 - (offset + steps / batch) % 1.0


def mask_at_rate(key: RowKey, maskable: Mask, rate: Float[Array, ""]) -> Mask:
    """Each maskable position is masked independently with probability `rate` = 1 - alpha(t)."""
    return maskable & (jax.random.uniform(key, maskable.shape, jnp.float32) < rate)


def mask_exactly(key: RowKey, maskable: Mask, count: Int[Array, ""]) -> Mask:
    """A uniformly random set of exactly `count` maskable positions (all, if there are fewer)."""
    noise = jnp.where(maskable, jax.random.uniform(key, maskable.shape, jnp.float32), 2.0)
    rank = jnp.argsort(jnp.argsort(noise))
    return maskable & (rank < count)


def complement_masks(
    key: RowKey, maskable: Mask, rate: Float[Array, ""]
) -> Bool[Array, "2 length"]:
    """Anti-masking (a): a mask at `rate` and its complement, which is a mask at 1 - rate.

    Every maskable position is predicted in exactly one of the two views. Weight each view by its own
    rate. With rate uniform in (0, 1) each view alone is distributed as `mask_at_rate`.
    """
    first = mask_at_rate(key, maskable, rate)
    return jnp.stack([first, maskable & ~first])


def antithetic_masks(
    key: RowKey, maskable: Mask, rate: Float[Array, ""]
) -> Bool[Array, "2 length"]:
    """Anti-masking (b): two masks at the same rate from uniforms u and 1 - u."""
    uniform = jax.random.uniform(key, maskable.shape, jnp.float32)
    return maskable[None, :] & jnp.stack([uniform < rate, 1.0 - uniform < rate])


def apply_mask(tokens: Tokens, is_masked: Mask, mask_id: int) -> Tokens:
    """The canvas: `tokens` with MASK written where `is_masked`."""
    return jnp.where(is_masked, mask_id, tokens)


def row_keys(key: RowKey, indices: Int[Array, " batch"]) -> Key[Array, " batch"]:
    """One key per example, from its index: independent of batch size and of the other rows."""
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(indices)
