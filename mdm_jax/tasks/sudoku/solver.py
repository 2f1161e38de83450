"""9x9 Sudoku: completions of a grid, random grids, symmetries, puzzles with one solution.

Cells are row-major. In lists handed to the solver a cell holds its digit 0..8, or EMPTY.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

EMPTY = -1
SIDE = 9
CELLS = SIDE * SIDE
_UNITS = tuple((c // 9, 9 + c % 9, 18 + 3 * (c // 27) + c % 9 // 3) for c in range(CELLS))
_ASCENDING = (tuple(range(SIDE)),) * CELLS


def completions(
    cells: Sequence[int], digit_order: Sequence[Sequence[int]] = _ASCENDING
) -> Iterator[list[int]]:
    """Every full grid that extends `cells`, by depth-first search over bit masks of free digits.

    The cell with the fewest candidates is tried next, its digits in the order `digit_order[cell]`.
    """
    free = [(1 << SIDE) - 1] * (3 * SIDE)
    grid = [EMPTY] * CELLS
    for cell, digit in enumerate(cells):
        if digit != EMPTY:
            row, column, box = _UNITS[cell]
            if not free[row] & free[column] & free[box] & (1 << digit):
                return
            _flip(grid, free, cell, digit)
    open_cells = [cell for cell in range(CELLS) if grid[cell] == EMPTY]
    yield from _search(grid, free, open_cells, digit_order)


def _search(
    grid: list[int], free: list[int], open_cells: list[int], digit_order: Sequence[Sequence[int]]
) -> Iterator[list[int]]:
    if not open_cells:
        yield list(grid)
        return
    cell, candidates = _most_constrained(free, open_cells)
    open_cells.remove(cell)
    for digit in digit_order[cell]:
        if candidates & (1 << digit):
            _flip(grid, free, cell, digit)
            yield from _search(grid, free, open_cells, digit_order)
            _flip(grid, free, cell, digit)
    open_cells.append(cell)


def _most_constrained(free: list[int], open_cells: list[int]) -> tuple[int, int]:
    """The open cell with the fewest candidates, and those as a bit mask."""
    fewest, chosen, chosen_candidates = SIDE + 1, EMPTY, 0
    for cell in open_cells:
        row, column, box = _UNITS[cell]
        candidates = free[row] & free[column] & free[box]
        number = candidates.bit_count()
        if number < fewest:
            fewest, chosen, chosen_candidates = number, cell, candidates
            if number <= 1:
                break
    return chosen, chosen_candidates


def _flip(grid: list[int], free: list[int], cell: int, digit: int) -> None:
    """Puts the digit into the cell, or takes it out again."""
    grid[cell] = digit if grid[cell] == EMPTY else EMPTY
    for unit in _UNITS[cell]:
        free[unit] ^= 1 << digit


def random_grid(rng: np.random.Generator) -> Int[np.ndarray, "81"]:
    """A full grid: the first one of a search that tries digits in random order (not uniform)."""
    digit_order = rng.permuted(np.tile(np.arange(SIDE), (CELLS, 1)), axis=1).tolist()
    return np.array(next(completions([EMPTY] * CELLS, digit_order)))


def random_symmetries(
    grids: Int[np.ndarray, "n 81"], rng: np.random.Generator
) -> Int[np.ndarray, "n 81"]:
    """Each grid under its own random symmetry, which keeps it a solution.

    Digits are relabelled, bands and stacks and the lines inside them permuted, and half of the
    grids transposed: 9! * 6^8 * 2 symmetries, drawn uniformly.
    """
    n = len(grids)
    square = grids.reshape(n, SIDE, SIDE)
    rows, columns = _line_orders(n, rng), _line_orders(n, rng)
    square = square[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    transposed = rng.random(n) < 0.5
    square = np.where(transposed[:, None, None], square.swapaxes(1, 2), square)
    labels = rng.permuted(np.tile(np.arange(SIDE), (n, 1)), axis=1)
    return np.take_along_axis(labels, square.reshape(n, CELLS), axis=1)


def _line_orders(n: int, rng: np.random.Generator) -> Int[np.ndarray, "n 9"]:
    """Permutations of 9 lines that keep the three of a band together."""
    bands = rng.permuted(np.tile(np.arange(3), (n, 1)), axis=1)
    inside = rng.permuted(np.tile(np.arange(3), (n, 3, 1)), axis=2)
    return (3 * bands[:, :, None] + inside).reshape(n, SIDE)


def puzzle_from(
    grid: Int[np.ndarray, "81"], clues: int, rng: np.random.Generator
) -> Int[np.ndarray, "81"]:
    """`grid` with cells emptied in random order, as long as the solution stays unique.

    Stops at `clues` clues; keeps more where no further cell can go. Because the puzzle before each
    removal has one solution, it is enough to ask for a completion with another digit in that cell.
    """
    puzzle = grid.tolist()
    left = CELLS
    for cell in rng.permutation(CELLS).tolist():
        if left == clues:
            break
        digit, puzzle[cell] = puzzle[cell], EMPTY
        if _has_other_digit(puzzle, cell, digit):
            puzzle[cell] = digit
        else:
            left -= 1
    return np.array(puzzle)


def _has_other_digit(puzzle: list[int], cell: int, digit: int) -> bool:
    others = (d for d in range(SIDE) if d != digit)
    changed = ([*puzzle[:cell], other, *puzzle[cell + 1 :]] for other in others)
    return any(next(completions(cells), None) is not None for cells in changed)
