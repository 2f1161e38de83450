"""Rotary position embedding, halves paired. Reference: arXiv:2104.09864."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

RopeTable = tuple[Float[Array, "places half"], Float[Array, "places half"]]
Heads = Float[Array, "places heads dim"]


def rope_table(places: Int[Array, " places"], dim: int, base: float) -> RopeTable:
    """cos and sin, float32, of place * base^(-i / half) for i in 0..half - 1; half = dim / 2."""
    half = dim // 2
    frequencies = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    turned = places.astype(jnp.float32)[:, None] * frequencies
    return jnp.cos(turned), jnp.sin(turned)


def apply_rope(x: Heads, by: RopeTable) -> Heads:
    """Each pair (i, i + half) of every head turned by its angle, in the type of the table; the
    result has x's own type.
    """
    cos, sin = (table[:, None, :] for table in by)
    first, second = jnp.split(x.astype(cos.dtype), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)
