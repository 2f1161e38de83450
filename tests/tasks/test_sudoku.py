"""Sudoku: the 288 grids, unique 9x9 puzzles, and a verifier checked on hand-made grids."""

import itertools

import jax
import numpy as np
import pytest

from mdm_jax.tasks.base import Batch
from mdm_jax.tasks.sudoku.solver import (
    EMPTY,
    completions,
    puzzle_from,
    random_grid,
    random_symmetries,
)
from mdm_jax.tasks.sudoku.task import Sudoku, all_grids

SOLVED = np.array([0, 1, 2, 3, 2, 3, 0, 1, 1, 0, 3, 2, 3, 2, 1, 0])
MASK = 4


def is_solved(grid, side):
    box = round(side**0.5)
    square = np.asarray(grid).reshape(side, side)
    boxes = [
        square[r : r + box, c : c + box].ravel()
        for r in range(0, side, box)
        for c in range(0, side, box)
    ]
    units = [*square, *square.T, *boxes]
    return all(sorted(unit) == list(range(side)) for unit in units)


def brute_force_count(cells, limit=2):
    """Solutions of a 9x9 puzzle by plain backtracking in cell order, sharing nothing with ours."""
    grid = np.array(cells).reshape(9, 9)

    def fits(r, c, d):
        box = grid[r // 3 * 3 : r // 3 * 3 + 3, c // 3 * 3 : c // 3 * 3 + 3]
        return d not in grid[r] and d not in grid[:, c] and d not in box

    def count():
        open_cells = np.argwhere(grid == EMPTY)
        if not len(open_cells):
            return 1
        options = {
            (r, c): [d for d in range(9) if fits(r, c, d)] for r, c in map(tuple, open_cells)
        }
        (r, c), digits = min(options.items(), key=lambda item: len(item[1]))
        found = 0
        for d in digits:
            grid[r, c] = d
            found += count()
            grid[r, c] = EMPTY
            if found >= limit:
                break
        return found

    return count()


def test_there_are_288_distinct_solved_grids():
    grids = all_grids()
    assert grids.shape == (288, 16) and len(np.unique(grids, axis=0)) == 288
    assert all(is_solved(grid, 4) for grid in grids)
    by_hand = sum(
        is_solved(np.concatenate([[0, 1, 2, 3, 2, 3, 0, 1], *tail]), 4)
        for tail in itertools.product(itertools.permutations(range(4)), repeat=2)
    )
    assert by_hand == np.sum((grids[:, :8] == [0, 1, 2, 3, 2, 3, 0, 1]).all(axis=1)) == 4


def test_training_is_uniform_over_the_288_grids():
    tokens = np.concatenate([Sudoku().train_batch(0, step, 1440).tokens for step in range(10)])
    grids, counts = np.unique(tokens, axis=0, return_counts=True)
    np.testing.assert_array_equal(grids, all_grids())
    chi_square = np.sum((counts - 50) ** 2 / 50)
    assert 220 < chi_square < 365  # 287 degrees of freedom: mean 287, standard deviation 24


@pytest.mark.parametrize("side", [4, 9])
def test_batches_are_a_function_of_seed_and_step(side):
    task = Sudoku(side=side, base_grids=5)
    one = task.train_batch(3, 7, 16)
    np.testing.assert_array_equal(
        one.tokens, Sudoku(side=side, base_grids=5).train_batch(3, 7, 16)[0]
    )
    assert one.maskable.all() and one.maskable.shape == one.tokens.shape == (16, side * side)
    assert (one.tokens != task.train_batch(3, 8, 16).tokens).any()
    assert (one.tokens != task.train_batch(4, 7, 16).tokens).any()
    assert all(is_solved(grid, side) for grid in one.tokens)


def test_number_of_clues_is_uniform_in_its_range():
    canvases = Sudoku(min_clues=1, max_clues=3).examples("train", 900).canvases
    clues, counts = np.unique((canvases != MASK).sum(axis=1), return_counts=True)
    np.testing.assert_array_equal(clues, [1, 2, 3])
    assert np.abs(counts - 300).max() < 5 * np.sqrt(200)
    shown = (canvases != MASK).mean(axis=0)
    assert np.abs(shown - 2 / 16).max() < 5 * np.sqrt(2 / 16 / 900)


@pytest.mark.parametrize(
    "settings",
    [{}, {"min_clues": 1, "max_clues": 3}, {"side": 9, "min_clues": 30, "max_clues": 33}],
)
def test_shown_clues_are_uniform_in_number_and_place(settings):
    task, rows = Sudoku(base_grids=1, **settings), 4000
    tokens = np.zeros((rows, task.length), np.int32)
    batch = Batch(tokens=tokens, maskable=np.ones(tokens.shape, bool))
    shown = ~task.with_prompts(batch, 0).maskable
    fewest, most = task.clue_range
    clues, counts = np.unique(shown.sum(axis=1), return_counts=True)
    np.testing.assert_array_equal(clues, np.arange(fewest, most + 1))
    expected = rows / len(clues)
    assert np.sum((counts - expected) ** 2 / expected) < 18.5  # at most 4 dof, p = .001
    mean = (fewest + most) / 2 / task.length
    spread = np.sqrt(mean * (1 - mean) / rows)
    assert np.abs(shown.mean(axis=0) - mean).max() < 4.5 * spread
    one = shown[shown.sum(axis=1) == clues[-1]]
    pairs = one[:, 0] & one[:, 1]  # two cells of a row are as independent as they can be
    chance = most * (most - 1) / (task.length * (task.length - 1))
    assert abs(pairs.mean() - chance) < 4.5 * np.sqrt(chance * (1 - chance) / len(one))


def test_shown_clues_are_a_function_of_seed_and_size():
    task = Sudoku(min_clues=3, max_clues=6)
    one, other = task.train_batch(0, 0, 50), task.train_batch(1, 0, 50)
    assert one.maskable.all()
    first = task.with_prompts(one, 5)
    np.testing.assert_array_equal(first.tokens, one.tokens)
    np.testing.assert_array_equal(first.maskable, task.with_prompts(other, 5).maskable)
    assert one.maskable.all()  # the one that was given stays as it was
    different = first.maskable != task.with_prompts(one, 6).maskable
    assert different.any(axis=1).mean() > 0.9
    assert (first.maskable[1:] != first.maskable[:-1]).any(axis=1).mean() > 0.9
    with pytest.raises(ValueError, match="seed -1 must not be negative"):
        task.with_prompts(one, -1)


def test_shown_clues_are_those_of_examples():
    """For side 4: every number of clues as often, within chance."""
    task = Sudoku(min_clues=1, max_clues=3)
    asked = (task.examples("train", 900).canvases != MASK).sum(axis=1)
    grids = task.train_batch(0, 0, 900)
    shown = (~task.with_prompts(grids, 0).maskable).sum(axis=1)
    table = np.stack([np.bincount(x, minlength=4)[1:] for x in (asked, shown)])
    expected = table.mean(axis=0)
    assert np.sum((table - expected) ** 2 / expected) < 13.8  # 2 dof, p = .001


def test_the_oracle_of_side_4_is_exact():
    task = Sudoku()
    conditionals = jax.jit(lambda canvas: jax.nn.softmax(task.oracle()(canvas, canvas >= 0)))
    np.testing.assert_allclose(conditionals(np.full(16, MASK)), np.full((16, 4), 0.25), rtol=1e-6)
    agree = all_grids()[(all_grids()[:, [0, 5]] == [2, 3]).all(axis=1)]
    canvas = np.where(np.arange(16) == 0, 2, np.where(np.arange(16) == 5, 3, MASK))
    expected = np.stack([(agree == token).mean(axis=0) for token in range(4)], axis=1)
    np.testing.assert_allclose(conditionals(canvas), expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"side 9 has no oracle: .* too many for a table"):
        Sudoku(side=9).oracle()


def test_examples_depend_on_split_and_index_alone():
    task = Sudoku(num_examples=20)
    few, many = task.examples("test", 5), task.examples("test")
    assert len(many.canvases) == 20
    np.testing.assert_array_equal(few.canvases, many.canvases[:5])
    assert (task.examples("train").canvases != many.canvases).any()
    np.testing.assert_array_equal(many.canvases, many.references)


def test_default_clues_move_with_the_one_that_is_given():
    assert Sudoku().clue_range == (0, 4)
    assert Sudoku(min_clues=6).clue_range == (6, 6)
    assert Sudoku(side=9).clue_range == (32, 32)
    assert Sudoku(side=9, max_clues=28).clue_range == (28, 28)
    assert Sudoku(side=9, min_clues=28).clue_range == (28, 32)


def test_9x9_puzzles_have_exactly_one_solution():
    task = Sudoku(side=9, min_clues=30, max_clues=34)
    examples = task.examples("test", 4)
    for canvas in examples.canvases:
        puzzle = np.where(canvas == 9, EMPTY, canvas)
        assert 30 <= (puzzle != EMPTY).sum() <= 34
        assert brute_force_count(puzzle) == 1
        solution = next(completions(puzzle.tolist()))
        assert is_solved(solution, 9)
        assert task.verify(np.array(solution), canvas)


def test_the_solver_counts_like_brute_force():
    rng = np.random.default_rng(0)
    puzzle = puzzle_from(random_grid(rng), 34, rng)
    removed = puzzle.copy()
    removed[np.flatnonzero(puzzle != EMPTY)[:2]] = EMPTY
    found = list(completions(removed.tolist()))
    assert len(found) == brute_force_count(removed, limit=10_000) > 1, len(found)
    assert len({tuple(grid) for grid in found}) == len(found)
    assert list(completions([0, 0] + [EMPTY] * 79)) == []


def test_symmetries_keep_solutions_and_reach_many_grids():
    rng = np.random.default_rng(1)
    grids = random_symmetries(np.repeat(random_grid(rng)[None], 200, axis=0), rng)
    assert all(is_solved(grid, 9) for grid in grids)
    assert len(np.unique(grids, axis=0)) == 200


def test_base_grids_bounds_the_training_stream():
    def classes(base_grids):
        task = Sudoku(side=9, base_grids=base_grids)
        return len(np.unique(task._grids, axis=0))

    assert (classes(1), classes(3)) == (1, 3)


def test_heldout_is_everything_for_side_4_and_unseen_for_side_9():
    np.testing.assert_array_equal(Sudoku().heldout().tokens, all_grids())
    task = Sudoku(side=9, base_grids=4, num_examples=6)
    tokens = task.heldout().tokens
    assert tokens.shape == (6, 81) and all(is_solved(grid, 9) for grid in tokens)
    assert not {tuple(g) for g in tokens} & {tuple(g) for g in task._grids}


def test_verifier_on_hand_made_grids():
    task = Sudoku()
    puzzle = np.full(16, MASK)
    assert task.verify(SOLVED, puzzle)
    puzzle[5] = 3
    assert task.verify(SOLVED, puzzle)
    puzzle[6] = 3
    assert not task.verify(SOLVED, puzzle)  # solved, but a clue was overwritten
    empty = np.full(16, MASK)
    latin = np.array([0, 1, 2, 3, 1, 2, 3, 0, 2, 3, 0, 1, 3, 0, 1, 2])
    assert not task.verify(latin, empty)  # rows and columns are right, boxes are not
    repeated_rows = np.tile([0, 1, 2, 3], 4)
    assert not task.verify(repeated_rows, empty)
    assert not task.verify(repeated_rows.reshape(4, 4).T.ravel(), empty)
    assert not task.verify(np.where(np.arange(16) == 7, MASK, SOLVED), empty)
    assert not task.verify(empty, empty)


def test_verifier_agrees_with_numpy_and_runs_under_jit_and_vmap():
    rng = np.random.default_rng(0)
    canvases = all_grids()[:64].copy()
    spoiled = np.arange(0, 64, 2)
    canvases[spoiled, rng.integers(16, size=32)] = rng.integers(5, size=32)
    references = np.full_like(canvases, MASK)
    got = jax.jit(jax.vmap(Sudoku().verify))(canvases, references)
    expected = [is_solved(canvas, 4) for canvas in canvases]
    np.testing.assert_array_equal(got, expected)
    assert 32 <= sum(expected) < 64


def test_decode_draws_the_grid():
    assert Sudoku().decode(np.where(np.arange(16) == 1, MASK, SOLVED)) == (
        "1 .|3 4\n3 4|1 2\n---+---\n2 1|4 3\n4 3|2 1"
    )
    drawn = Sudoku(side=9).decode(np.full(81, 9)).splitlines()
    assert len(drawn) == 11 and drawn[3] == "-----+-----+-----"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"side": 6}, "side 6 is not available: choose 4 or 9"),
        ({"min_clues": 3, "max_clues": 2}, "clues from 3 to 2"),
        ({"min_clues": -1}, "clues from -1 to 4"),
        ({"max_clues": 16}, "clues from 0 to 16"),
        ({"side": 9, "max_clues": 16}, "17 <= min_clues"),
        ({"base_grids": 0}, "base_grids 0"),
        ({"num_examples": 0}, "num_examples 0"),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Sudoku(**settings)


def test_impossible_requests_are_named():
    with pytest.raises(ValueError, match="split 'dev' is not one of train, heldout, test"):
        Sudoku().examples("dev")
    with pytest.raises(ValueError, match="count 0 must be at least 1"):
        Sudoku().examples("test", 0)
    with pytest.raises(ValueError, match="seed -1"):
        Sudoku().train_batch(-1, 0, 2)
