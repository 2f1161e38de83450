"""Rows of a table, computed by hand."""

import numpy as np
import pytest
from evaluation_world import TASK, PureSumTask, SumTask

from mdm_jax.evals.score import row_of, verify_all
from mdm_jax.evals.store import Generations
from mdm_jax.tasks.sudoku.task import all_grids


@pytest.mark.parametrize("task", [SumTask(), PureSumTask()])
def test_verifiers(task):
    canvases = np.array([[1, 2], [3, 4], [0, 0]])
    found = verify_all(task, canvases, {"sum": np.array([3, 6, 0])})
    assert found.dtype == bool and found.tolist() == [True, False, True]


def test_all_solved_grids_and_no_others():
    grids = np.concatenate([all_grids()[:3], all_grids()[:3] * 0])
    empty = np.full(grids.shape, TASK.vocabulary.mask_id)
    assert verify_all(TASK, grids, empty).tolist() == [True] * 3 + [False] * 3


def test_a_row_by_hand():
    found = Generations(
        index=np.array([0, 1, 2]),
        tokens=np.zeros((3, 2), int),
        text=["", "", ""],
        nfe=np.array([2, 3, 4]),
        passes=np.array([4, 4, 4]),
        seconds=np.array([np.nan, 0.75, 0.25]),
        revealed_at=np.zeros((3, 2), int),
    )
    row = row_of("Name", {"knob": 1}, "label", np.array([True, False, True]), found)
    assert (row.policy, row.settings, row.label) == ("Name", {"knob": 1}, "label")
    assert (row.correct, row.total, row.accuracy) == (2, 3, 2 / 3)
    # Beta(3, 2), equal tails
    assert row.low == pytest.approx(0.1941, abs=1e-4)
    assert row.high == pytest.approx(0.9324, abs=1e-4)
    assert (row.nfe, row.nfe_min, row.nfe_max, row.passes) == (3, 2, 4, 4)
    assert row.sequences_per_second == 2  # the batch that compiled does not count
