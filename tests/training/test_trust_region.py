"""Search near the best point: it finds a minimum beside a cliff, and resumes."""

import math

import numpy as np

from mdm_jax.training.trust_region import PATIENCE, SHRINK, TrustRegion


def loss(point):
    """A quadratic with its minimum at (1, -2, 0.5), and a cliff close behind it."""
    return math.inf if point[0] > 1.2 else float(np.sum((point - [1.0, -2.0, 0.5]) ** 2))


def searched(trials, region, start=0):
    for trial in range(start, start + trials):
        point = region.propose(7, trial)
        region = region.told(point, loss(point))
    return region


def test_the_minimum_beside_a_cliff():
    start = TrustRegion(np.zeros(3), loss(np.zeros(3)), 1.0)
    found = searched(300, start)
    assert start.loss > 5 and found.loss < 0.01 and found.radius < 0.2


def test_a_search_in_two_parts_is_the_same():
    start = TrustRegion(np.zeros(3), math.inf, 1.0)
    whole, parts = searched(40, start), searched(25, searched(15, start), 15)
    np.testing.assert_array_equal(whole.best, parts.best)
    assert whole[1:] == parts[1:]


def test_failures_shrink_the_box():
    region = TrustRegion(np.zeros(2), 1.0, 0.5)
    for _ in range(PATIENCE):
        assert region.radius == 0.5
        region = region.told(np.ones(2), math.nan)
    assert region.radius == 0.5 * SHRINK and region.failures == 0 and region.loss == 1.0
