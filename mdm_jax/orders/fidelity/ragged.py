"""A loop over rows of different lengths that only pays for the rows that still run."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

Row = TypeVar("Row")


def run_ragged(
    step: Callable[[Row, Any], Row],
    running: Callable[[Row], Bool[Array, ""]],
    rows: Row,
    fixed: Any,
    chunk: int,
) -> Row:
    """Apply `step` to each row for as long as `running` says so.

    A vmapped `while_loop` computes every row until the longest is done. Here the rows that still run
    are gathered, `chunk` of them at a time, so at most chunk - 1 row-steps are wasted in each round, and
    memory is that of one chunk. The result does not depend on `chunk`.

    Args:
      step: (row, what is fixed of it) -> row.
      running: of one row.
      rows: pytree with a leading axis.
      fixed: pytree with the same leading axis, which does not change: keys, for example.
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    chunk = min(chunk, count)

    def advance_chunk(index: Int[Array, ""], carry: tuple) -> tuple:
        rows, order = carry
        places = jax.lax.dynamic_slice(order, (index * chunk,), (chunk,))
        take = partial(
            jax.tree.map, lambda leaf: leaf[places]
        )  # a place past the end: the last row
        before = take(rows)
        on, after = jax.vmap(running)(before), jax.vmap(step)(before, take(fixed))
        after = jax.tree.map(lambda new, old: _where(on, new, old), after, before)
        written = jax.tree.map(lambda leaf, new: leaf.at[places].set(new, mode="drop"), rows, after)
        return written, order

    def advance(rows: Row) -> Row:
        on = jax.vmap(running)(rows)
        order = jnp.concatenate([jnp.argsort(~on), jnp.full((chunk,), count)])
        chunks = -(-jnp.sum(on) // chunk)
        return jax.lax.fori_loop(0, chunks, advance_chunk, (rows, order))[0]

    return jax.lax.while_loop(lambda rows: jnp.any(jax.vmap(running)(rows)), advance, rows)


def _where(on: Bool[Array, " chunk"], new: Array, old: Array) -> Array:
    return jnp.where(on.reshape(-1, *(1,) * (new.ndim - 1)), new, old)
