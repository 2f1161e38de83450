"""Sets of positions that are built one position at a time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from mdm_jax.types import Count, Mask

Accepts = Callable[[Mask, Int[Array, ""]], Bool[Array, ""]]  # (chosen so far, position)


def greedy(ranks: Int[Array, " length"], candidates: Mask, accepts: Accepts) -> Mask:
    """Go through the candidates by rank, and keep each that is accepted beside those kept before.

    Args:
      ranks: 0, 1, ... of all positions.
    """
    order = jnp.argsort(ranks)

    def consider(number: Count, chosen: Mask) -> Mask:
        position = order[number]
        return chosen.at[position].set(candidates[position] & accepts(chosen, position))

    return jax.lax.fori_loop(0, len(ranks), consider, jnp.zeros_like(candidates))
