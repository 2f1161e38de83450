"""Work on data a chunk at a time, so that memory is bounded whatever the number of rows.

How large a chunk is follows from one rule, `canvases_at_once`. A canvas of a small task is so small that
the chunk is the whole batch, and the program then is that of `jax.vmap`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, PyTree

LIMIT = 2**27  # numbers in memory at once, in one array: 512 MiB as float32
PER_POSITION = 4096  # that a network has of one position, beside its logits
# logits of one canvas that are reduced at once; other compilers than that of CPUs fuse what is done
LOGITS_AT_ONCE = {"cpu": 2**17}
KEPT = "kept"


def canvases_at_once(length: int, ids: int, window: int | None = None) -> int:
    """The number of canvases that a denoiser is called on together, at least 1.

    Args:
      length: positions of a canvas.
      ids: that there are logits for, such as the id of PAD, which comes after all others.
      window: positions whose logits are wanted; None: all of them.
    """
    numbers = max((window or length) * ids, length * PER_POSITION)
    return max(LIMIT // numbers, 1)


def map_positions(fn: Callable[..., PyTree], logits: Array, *others: Array) -> PyTree:
    """`fn(logits, *others)` of a function that treats every position on its own, in parts.

    XLA keeps several arrays as large as the logits while it reduces them over the vocabulary; here they
    are as large as a part. Small logits are reduced in one piece.

    Args:
      logits: [length, vocab].
      others: with a leading axis of the same length.
    """
    at_once = LOGITS_AT_ONCE.get(jax.default_backend(), LIMIT // 8)
    return map_parts(fn, max(at_once // logits.shape[1], 1), logits, *others)


def map_parts(fn: Callable[..., PyTree], size: int, *arrays: Array) -> PyTree:
    """`fn(*arrays)` of a function that treats entries of the leading axis on their own, `size` of them
    at a time; the last part overlaps the one before where `size` does not divide.
    """
    length = len(arrays[0])
    if size >= length:
        return fn(*arrays)
    starts = jnp.minimum(jnp.arange(0, length, size), length - size)

    def part(start: Array) -> PyTree:
        return fn(*(jax.lax.dynamic_slice_in_dim(x, start, size) for x in arrays))

    def join(x: Array) -> Array:
        whole = x[:-1].reshape(-1, *x.shape[2:])
        return jnp.concatenate([whole, x[-1, len(whole) - (length - size) :]])

    return jax.tree.map(join, jax.lax.map(part, starts))


def kept(x: PyTree) -> PyTree:
    """Small results of large computations, which `recompute` does not make again."""
    return jax.tree.map(lambda leaf: checkpoint_name(leaf, KEPT), x)


def map_rows(fn: Callable[[Any], Any], rows: PyTree, size: int, recompute: bool = False) -> PyTree:
    """`jax.vmap(fn)(rows)`, of at most `size` rows at a time: see `map_batches`."""
    return map_batches(jax.vmap(fn), rows, size, recompute)


def map_batches(
    fn: Callable[[Any], Any], rows: PyTree, size: int, recompute: bool = False
) -> PyTree:
    """`fn(rows)` of a function whose rows do not depend on each other, at most `size` at a time.

    Chunk c of n has the rows c, c + n, c + 2 n, ..., so that rows that are split over devices stay
    split; `size` then counts the rows of all devices.

    Args:
      rows: pytree with a leading axis.
      recompute: where there are several chunks, compute each again in the backward pass, but for what
        was named by `kept`: what derivatives need is in memory of one chunk alone.
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    chunks = -(-count // size)
    if chunks <= 1:
        return fn(rows)
    full = -(-count // chunks)

    def split(x: Array) -> Array:
        x = jax.random.key_data(x) if _is_key(x) else x
        if full * chunks > count:
            x = x[jnp.arange(full * chunks) % count]
        return x.reshape(full, chunks, *x.shape[1:]).swapaxes(0, 1)

    def restore(x: Array, like: Array) -> Array:
        return jax.random.wrap_key_data(x, impl=jax.random.key_impl(like)) if _is_key(like) else x

    def join(x: Array) -> Array:
        return x.swapaxes(0, 1).reshape(full * chunks, *x.shape[2:])[:count]

    chunked = jax.tree.map(
        split, rows
    )  # keys as numbers: JAX takes a transposed key for a used one
    if recompute:
        fn = jax.checkpoint(fn, policy=jax.checkpoint_policies.save_only_these_names(KEPT))
    found = jax.lax.map(lambda part: fn(jax.tree.map(restore, part, rows)), chunked)
    return jax.tree.map(join, found)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def sum_of_chunks(
    fn: Callable[[PyTree, PyTree], tuple[Array, PyTree]], params: PyTree, chunks: PyTree
) -> tuple[Array, PyTree]:
    """The sum of fn(params, chunk)[0] over chunks, one after another, and all fn(params, chunk)[1].

    The gradient, with respect to `params` and of the sum alone, is added up beside the sum: what
    derivatives need is in memory of one chunk alone, and nothing is computed twice.

    Args:
      fn: returns a float32 scalar, and a pytree.
      chunks: pytree with a leading axis.
    """

    def add(total: Array, chunk: PyTree) -> tuple[Array, PyTree]:
        value, rest = fn(params, chunk)
        return total + value, rest

    return jax.lax.scan(add, jnp.zeros((), jnp.float32), chunks)


def _sum_and_gradient(
    fn: Callable[[PyTree, PyTree], tuple[Array, PyTree]], params: PyTree, chunks: PyTree
) -> tuple[tuple[Array, PyTree], PyTree]:
    def add(total: PyTree, chunk: PyTree) -> tuple[PyTree, PyTree]:
        (value, rest), gradient = jax.value_and_grad(fn, has_aux=True)(params, chunk)
        return jax.tree.map(jnp.add, total, (value, gradient)), rest

    zeros = jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, params)
    (total, gradient), rest = jax.lax.scan(add, zeros, chunks)
    return (total, rest), gradient


def _scaled(
    fn: Callable, gradient: PyTree, cotangents: tuple[Array, PyTree]
) -> tuple[PyTree, None]:
    return jax.tree.map(lambda leaf: leaf * cotangents[0].astype(leaf.dtype), gradient), None


sum_of_chunks.defvjp(_sum_and_gradient, _scaled)


def _is_key(x: Array) -> bool:
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
