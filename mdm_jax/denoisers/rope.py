"""Rotary position embedding, halves paired. Reference: arXiv:2104.09864."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

RopeTable = tuple[Float[Array, "positions half"], Float[Array, "positions half"]]
Heads = Float[Array, "positions heads dim"]


def rope_table(positions: Int[Array, " positions"], dim: int, base: float) -> RopeTable:
    """cos and sin, float32, of position * base^(-i / half) for i in 0..half - 1; half = dim / 2."""
    half = dim // 2
    frequencies = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions.astype(jnp.float32)[:, None] * frequencies[None, :]
    return jnp.cos(angles), jnp.sin(angles)


def grid_rope_table(coordinates: Int[Array, "positions 2"], dim: int, base: float) -> RopeTable:
    """`rope_table` with two coordinates, whose frequencies take turns: equal ones are one position."""
    half = dim // 2
    frequencies = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    turns = coordinates[:, jnp.arange(half) % 2].astype(jnp.float32)
    return jnp.cos(turns * frequencies), jnp.sin(turns * frequencies)


def apply_rope(x: Heads, rope: RopeTable) -> Heads:
    """Each pair (i, i + half) of every head rotated by its angle: computed in the table's type,
    returned in x's.
    """
    cos, sin = (table[:, None, :] for table in rope)
    first, second = jnp.split(x.astype(cos.dtype), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x.dtype)
