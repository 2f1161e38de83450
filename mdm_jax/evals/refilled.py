"""Prompts in a batch of constant size: where a row has finished, the next prompt takes its place.

Rows need different numbers of denoiser calls, and a batch costs as many as its slowest row. With others
in their place, finished rows cost next to nothing.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int

from mdm_jax.sampling.refill import Running
from mdm_jax.types import Rollout

SHARE = 8  # one row in so many has finished when the program stops for new ones

Prompts = Int[np.ndarray, " batch"]
Slots = Bool[np.ndarray, " batch"]
# rows of some prompts before their first step
Begin = Callable[[Prompts], Running]
# their prompts, rows so far, which of them begin now, how many must finish: the rows, what they have
# come to and which have finished
Advance = Callable[[Prompts, Running, Slots, int], tuple[Running, Rollout, Slots]]


class Finished(NamedTuple):
    """Rows that have finished since the last time."""

    prompts: Int[np.ndarray, " some"]
    rollout: Rollout  # host arrays
    seconds: float


def refilled(
    prompts: Int[np.ndarray, " n"], size: int, local: int, begin: Begin, advance: Advance
) -> Iterator[Finished]:
    """Completes prompts, `size` at a time.

    Args:
      prompts: at least `size`.
      local: rows of the batch on each device, of which one in `SHARE` has finished whenever new
        prompts are put in; once none is waiting, all have to finish.
    """
    held, taken = prompts[:size].copy(), size
    running, occupied, is_new = begin(held), np.ones(size, bool), np.zeros(size, bool)
    while occupied.any():
        began = time.perf_counter()
        wanted = max(local // SHARE, 1) if taken < len(prompts) else local
        running, found, finished = advance(held, running, is_new, wanted)
        seconds = time.perf_counter() - began
        rows = np.flatnonzero(finished & occupied)
        yield Finished(held[rows], jax.tree.map(lambda x: x[rows], found), seconds)  # noqa: B023
        new = prompts[taken : taken + len(rows)]
        places, taken = rows[: len(new)], taken + len(new)
        held[places] = new
        is_new = np.isin(np.arange(size), places)
        occupied = (occupied & ~finished) | is_new
