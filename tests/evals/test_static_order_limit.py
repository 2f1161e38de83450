"""The row of the best static order: from an estimate that may exceed one, searched once."""

import numpy as np

from mdm_jax.evals import static_order_limit as limits
from mdm_jax.tasks.chains import Chains
from mdm_jax.tasks.sudoku import Sudoku


def test_an_estimate_above_one_is_a_row():
    """Ratios of probabilities have no upper end, a success rate has."""
    row = limits.limit_row(np.array([1.5, 1.0, 1.0, 0.9]), 4)
    assert (row.correct, row.total, row.accuracy) == (4, 4, 1.0)
    assert 0.9 < row.low < 1.0 and row.high == 1.0 and row.nfe_max == 4


def test_the_interval_is_that_of_the_ratios():
    """Not that of as many successes: one ratio of 25 is worth as much and says less."""
    even, rare = np.full(100, 0.25), np.eye(1, 100)[0] * 25
    rows = [limits.limit_row(ratios, 4) for ratios in (even, rare)]
    assert [row.accuracy for row in rows] == [0.25, 0.25]
    widths = [row.high - row.low for row in rows]
    assert widths[0] < 1e-6 and widths[1] > 0.8


def test_the_search_is_made_once(tmp_path, monkeypatch):
    searches = []

    def search(*args):
        searches.append(args[2:])
        return np.array([0.5, 0.7])

    monkeypatch.setattr(limits, "_best_ratios", search)
    path = tmp_path / "limit.json"
    rows = [limits.static_order_limit(Sudoku(), 4, 0, path) for _ in range(2)]
    assert rows[0] == rows[1] and searches == [(4, 0)]
    limits.static_order_limit(Sudoku(), 4, 1, path)
    assert searches == [(4, 0), (4, 1)]
    assert limits.static_order_limit(Sudoku(), 16, 0, path) is None
    assert limits.static_order_limit(Chains(), 4, 0, path) is None
