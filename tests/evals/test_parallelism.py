"""pass@k against its closed form, and accuracy under parallelism by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from mdm_jax.evals.matched import left_to_right_at
from mdm_jax.evals.parallelism import accuracy_under_parallelism, parallelism_of_rows
from mdm_jax.evals.pass_at_k import pass_at_each, pass_at_k
from mdm_jax.evals.score import Row


def test_pass_at_k_is_unbiased_for_the_closed_form():
    """Its mean over binomial numbers of right generations is 1 - (1 - p)^k exactly."""
    for total, k, p in [(5, 1, 0.3), (5, 3, 0.3), (8, 8, 0.05), (16, 4, 0.5)]:
        weights = scipy.stats.binom.pmf(np.arange(total + 1), total, p)
        mean = weights @ pass_at_k(np.arange(total + 1), total, k)
        assert mean == pytest.approx(1 - (1 - p) ** k, abs=1e-12)


def test_pass_at_k_needs_k_generations():
    with pytest.raises(ValueError, match="k must be at most 4, got 5"):
        pass_at_k(np.array([1]), 4, 5)


def test_accuracy_under_parallelism():
    def weighted(y):
        return y * math.exp(-3 * (1 - y / 80))

    points = [(4.0, 76.0), (1.0, 80.0), (2.0, 78.0), (8.0, 60.0)]  # the last one lost too much
    expected = 80 + (80 + weighted(78)) / 2 + 2 * (weighted(78) + weighted(76)) / 2
    assert accuracy_under_parallelism(points, 80.0) == pytest.approx(expected)
    assert accuracy_under_parallelism([(3.0, 50.0)], 80.0) == 150
    with pytest.raises(ValueError, match="at least one point"):
        accuracy_under_parallelism([], 80.0)


def test_pass_at_k_of_draws_by_hand():
    """Three prompts with 0, 1 and 2 right generations of 2."""
    draws = [np.array([False, True, True]), np.array([False, False, True])]
    once, twice = pass_at_each(draws, (1, 2))
    assert (once.k, once.value) == (1, 0.5) and twice.value == pytest.approx(2 / 3)
    assert 0 < once.low < 0.5 < once.high < 1


def test_parallelism_of_rows_shares_the_best_accuracy():
    def row(policy, accuracy, rate):
        one = Row(policy, {}, 1, 2, accuracy, 0.0, 1.0, 4.0, 1, 9, 4.0, None)
        return replace(one, tokens_per_call=rate)

    rows = [row("A", 0.8, 1.0), row("B", 0.5, 3.0), row("A", 0.78, 2.0)]
    found = parallelism_of_rows(rows)
    assert found["B"] == pytest.approx(150)
    assert found["A"] == accuracy_under_parallelism([(1.0, 80.0), (2.0, 78.0)], 80.0)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert parallelism_of_rows([row("A", 0.0, 1.0)]) == {}


def test_reading_order_gets_the_calls_on_either_side():
    row = Row("A", {}, 1, 2, 0.5, 0.0, 1.0, 5.4, 1, 9, 4.0, None)
    assert [policy.steps for policy in left_to_right_at(row, 16)] == [5, 6]
    assert [policy.steps for policy in left_to_right_at(replace(row, nfe=40.0), 16)] == [16]
    assert [policy.steps for policy in left_to_right_at(replace(row, nfe=5.0), 16)] == [5]
