"""Frontiers read at a number of denoiser calls."""

import numpy as np

from mdm_jax.evals.price_frontier import Frontiers, accuracy_at, best_baseline_at, over_seeds_at
from mdm_jax.evals.score import Outcome, Row


def outcome(policy, nfe, accuracy):
    row = Row(policy, {}, 1, 2, accuracy, 0.1, 0.9, float(nfe), 1, 16, 16.0, None)
    return Outcome(row, np.array([True, False]))


LEARNED = [outcome("AdaptivePolicy", nfe, share) for nfe, share in ((5.0, 0.9), (3.0, 0.5))]
BASELINES = [
    outcome("TopMargin", 2, 0.2),
    outcome("TopMargin", 4, 0.4),
    outcome("EntropyBound", 2.5, 0.1),
    outcome("EntropyBound", 4.5, 0.8),
]


def test_between_two_settings_either_is_taken_at_random():
    np.testing.assert_allclose(accuracy_at(LEARNED, 3.5), 0.6)
    assert accuracy_at(LEARNED, 5.0) == 0.9
    assert np.isnan(accuracy_at(LEARNED, 2.9))
    assert accuracy_at(LEARNED, 9.0) == 0.9  # in fewer calls than are allowed
    worse = outcome("AdaptivePolicy", 6.0, 0.8)
    assert accuracy_at([*LEARNED, worse], 6.0) == 0.9


def test_each_heuristic_has_a_frontier_of_its_own():
    found = Frontiers(LEARNED, BASELINES)
    name, accuracy = best_baseline_at(found, 3.5)
    assert name == "EntropyBound"
    np.testing.assert_allclose(accuracy, 0.45)
    name, accuracy = best_baseline_at(found, 2.0)  # EntropyBound takes more at all of its settings
    assert (name, accuracy) == ("TopMargin", 0.2)
    assert best_baseline_at(found, 6.0) == ("EntropyBound", 0.8)
    assert best_baseline_at(found, 1.0)[0] == "-"


def test_seeds_are_read_at_the_same_calls():
    row = over_seeds_at([Frontiers(LEARNED, BASELINES), Frontiers(LEARNED[:1], [])], 4.0)
    np.testing.assert_allclose(row.learned, (0.7, np.nan))
    assert row.baseline == "EntropyBound"
