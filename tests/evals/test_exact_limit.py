"""The limit of all orders at a mean number of calls, for a task's own prompts."""

import numpy as np

from mdm_jax.evals.exact_limit import graph_of, limit_at, limit_within
from mdm_jax.orders.limits import best_at_price
from mdm_jax.tasks.chains import Chains
from mdm_jax.tasks.sudoku import Sudoku


def test_the_limit_between_the_best_policies_at_two_prices():
    graph = graph_of(Sudoku(min_clues=4, max_clues=4))
    cheap, dear = (best_at_price(graph, price) for price in (0.1, 0.5))
    assert dear.calls < cheap.calls and dear.success < cheap.success
    middle = (cheap.calls + dear.calls) / 2
    found = limit_at(graph, (dear.calls, middle, cheap.calls, 9.0))
    np.testing.assert_allclose(
        [found[0], found[2], found[3]], [dear.success, cheap.success, 1.0], atol=2e-3
    )
    assert found[1] > (cheap.success + dear.success) / 2 - 1e-6  # concave
    within = [limit_within(graph, calls) for calls in (1, 2, 3)]
    assert within[0] < within[1] < within[2] <= 1.0 + 1e-9


def test_tasks_that_cannot_be_listed_have_none():
    assert graph_of(Chains()) is None and graph_of(Sudoku(side=9)) is None
