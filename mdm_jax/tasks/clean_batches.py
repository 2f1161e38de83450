"""Batches of clean sequences with their prompts shown, which orders are learned on."""

import numpy as np

from mdm_jax.tasks.base import Batch, Task

HELDOUT = 10**12  # batches from this number on are held-out sequences


def clean_batch(task: Task, seed: int, index: int, size: int) -> Batch:
    """Batch `index`: of training sequences, or from `HELDOUT` on of held-out ones.

    A function of its arguments alone. Held-out batches HELDOUT, HELDOUT + 1, ... have different
    sequences while they last.
    """
    if index >= HELDOUT:
        clean = _part(task.heldout(), size, index - HELDOUT)
    else:
        clean = task.train_batch(seed, index, size)
    return task.with_prompts(clean, seed * 10**13 + index)


def _part(data: Batch, size: int, part: int) -> Batch:
    """The `part`-th `size` sequences of a fixed permutation."""
    rows = np.random.default_rng(0).permutation(len(data.tokens))
    chosen = np.resize(np.roll(rows, -part * size), size)
    return Batch(data.tokens[chosen], data.maskable[chosen])
