"""pass@k against its closed form, and accuracy under parallelism by hand."""

import math

import numpy as np
import pytest
import scipy.stats

from mdm_jax.evals.parallelism import accuracy_under_parallelism, tokens_per_call
from mdm_jax.evals.pass_at_k import pass_at_k


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
    assert tokens_per_call(16.0, 4.0) == 4
