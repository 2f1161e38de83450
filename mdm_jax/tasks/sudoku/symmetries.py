"""Symmetries of 4x4 Sudoku: what may be done to every grid at once without leaving the 288."""

import numpy as np
from jaxtyping import Int

from mdm_jax.tasks.sudoku.task import all_grids


def grid_symmetries() -> list[Int[np.ndarray, "288"]]:
    """Generators of the 3072 symmetries, each as the place of every grid's image in `all_grids()`.

    Transposing, swapping the first two rows, swapping the bands, two relabellings of digits; the rest
    follows from these.
    """
    grids = all_grids()
    square = grids.reshape(-1, 4, 4)
    images = [square.swapaxes(1, 2), square[:, [1, 0, 2, 3]], square[:, [2, 3, 0, 1]]]
    images += [np.array(labels)[square] for labels in ([1, 0, 2, 3], [1, 2, 3, 0])]
    places = 4 ** np.arange(16)[::-1]  # the table is in lexicographic order
    return [np.searchsorted(grids @ places, image.reshape(-1, 16) @ places) for image in images]
