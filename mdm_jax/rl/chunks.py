"""Work on a long axis of steps, a chunk at a time."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree


def in_chunks(tree: PyTree, size: int) -> PyTree:
    """Leaves [rollouts, steps, ...] -> [chunks, rollouts, size, ...], the last chunk padded with 0."""
    return jax.tree.map(partial(_in_chunks, size=size), tree)


def _in_chunks(x: Array, size: int) -> Array:
    steps = x.shape[1]
    size = min(size, steps)
    x = jnp.pad(x, ((0, 0), (0, -steps % size), *((0, 0),) * (x.ndim - 2)))
    return jnp.moveaxis(x.reshape(x.shape[0], -1, size, *x.shape[2:]), 1, 0)


def out_of_chunks(
    x: Float[Array, "chunks rollouts size length"], steps: int
) -> Float[Array, "rollouts steps length"]:
    """The inverse, without the padding."""
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(x.shape[0], -1, x.shape[-1])[:, :steps]
