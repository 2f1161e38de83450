"""Sudoku, 4x4 and 9x9."""

from mdm_jax.tasks.sudoku.task import Sudoku

__all__ = ["Sudoku"]
