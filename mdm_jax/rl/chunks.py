"""Work on rollouts and their steps, a chunk of both at a time."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree


def in_chunks(tree: PyTree, rollouts: int, steps: int) -> PyTree:
    """Leaves [rollouts, steps, ...] -> [chunks, at most `rollouts`, at most `steps`, ...], padded with 0.

    Every n-th rollout goes to the same chunk, so that rollouts that are split over devices stay split.
    """
    return jax.tree.map(partial(_in_chunks, rollouts=rollouts, steps=steps), tree)


def _in_chunks(x: Array, rollouts: int, steps: int) -> Array:
    parts, rows, times, size = _sizes(*x.shape[:2], rollouts, steps)
    padding = (0, rows * parts - x.shape[0]), (0, times * size - x.shape[1])
    x = jnp.pad(x, (*padding, *((0, 0),) * (x.ndim - 2)))
    x = x.reshape(rows, parts, times, size, *x.shape[2:])
    x = jnp.moveaxis(x, (2, 1), (0, 1))
    return x.reshape(times * parts, rows, size, *x.shape[4:])


def _sizes(count: int, length: int, rollouts: int, steps: int) -> tuple[int, int, int, int]:
    """Parts of the rollouts and rows in each; parts of the steps and steps in each."""
    parts, size = -(-count // rollouts), min(steps, length)
    return parts, -(-count // parts), -(-length // size), size
