"""Exact shares of several kinds of rows in an endless stream: counters, nothing drawn."""

import functools

import numpy as np
from jaxtyping import Int

from mdm_jax.errors import MdmError


@functools.cache
def turns(weights: tuple[int, ...]) -> Int[np.ndarray, " cycle"]:
    """A cycle in which kind i has exactly weights[i] turns, spread as evenly as whole numbers can be.

    At each turn every kind earns its weight, and the richest (the first of equals) pays the sum.

    Raises:
      MdmError: weights are negative, or all zero.
    """
    if min(weights) < 0 or not sum(weights):
        raise MdmError(f"shares {weights} must be whole numbers, none negative and not all 0")
    earned, cycle = np.array(weights), []
    for _ in range(sum(weights)):
        cycle.append(int(np.argmax(earned)))
        earned[cycle[-1]] -= sum(weights)
        earned += weights
    found = np.array(cycle, np.int32)
    found.setflags(write=False)
    return found


def kinds_of_batch(weights: tuple[int, ...], step: int, size: int) -> Int[np.ndarray, " size"]:
    """The kind of each row of batch `step`: a function of the row's number in the stream alone."""
    cycle = turns(weights)
    return cycle[np.arange(step * size, (step + 1) * size) % len(cycle)]
