"""Areas computed by hand, and what must not change them."""

import itertools

import numpy as np
import pytest

from mdm_jax.evals.frontier import Point, area_under_frontier, pareto


def test_pareto_by_hand():
    points = [(8, 0.5), (2, 0.3), (4, 0.2), (16, 0.5), (2, 0.1), (32, 0.9), (1, 0.0)]
    assert pareto(points) == [6, 1, 0, 5]
    assert pareto([]) == []


def test_pareto_keeps_the_first_of_equal_points():
    assert pareto([Point(4, 0.2), Point(2, 0.1), Point(4, 0.2), Point(2, 0.1)]) == [1, 0]


def test_pareto_is_the_definition():
    rng = np.random.default_rng(0)
    for _ in range(200):
        points = [tuple(p) for p in np.c_[rng.integers(1, 6, 7), rng.integers(0, 6, 7) / 5]]
        unbeaten = {
            p for p in points if not any(q[0] <= p[0] and q[1] >= p[1] and q != p for q in points)
        }
        kept = [points[i] for i in pareto(points)]
        assert kept == sorted(unbeaten)


def test_area_by_hand():
    # best(n): 0 on [1, 2), 0.3 on [2, 8), 0.5 on [8, 16], in octaves 1, 2 and 1 of 4
    assert area_under_frontier([(2, 0.3), (8, 0.5)], nfe_max=16) == pytest.approx(1.1 / 4)
    assert area_under_frontier([(2, 0.3), (8, 0.5)], nfe_max=8) == pytest.approx(0.6 / 3)
    assert area_under_frontier([(2, 0.3), (8, 0.5)], nfe_max=16, nfe_min=4) == pytest.approx(0.4)
    assert area_under_frontier([(2**0.5, 1.0)], nfe_max=2) == pytest.approx(0.5)


def test_area_at_the_ends():
    assert area_under_frontier([], nfe_max=4) == 0
    assert area_under_frontier([(1, 1.0)], nfe_max=7) == pytest.approx(1)
    assert area_under_frontier([(4, 0.7), (5, 1.0)], nfe_max=4) == 0  # reached only at the end
    assert area_under_frontier([(0.5, 0.25)], nfe_max=4, nfe_min=1) == pytest.approx(0.25)
    assert area_under_frontier([(0.25, 0.1), (0.5, 0.25)], nfe_max=4) == pytest.approx(0.25)


def test_one_more_point_never_lowers_the_area_and_dominated_ones_leave_it():
    rng = np.random.default_rng(0)
    for _ in range(200):
        points = [tuple(p) for p in np.c_[np.exp(rng.uniform(-1, 5, 6)), rng.uniform(size=6)]]
        areas = [area_under_frontier(points[:n], nfe_max=64) for n in range(7)]
        assert np.all(np.diff(areas) >= -1e-15)
        frontier = [points[i] for i in pareto(points)]
        assert area_under_frontier(frontier, nfe_max=64) == areas[-1] <= 1


def test_order_and_duplicates_leave_the_area():
    points = [(2, 0.3), (4, 0.3), (8, 0.5)]
    want = area_under_frontier(points, nfe_max=32)
    for order in itertools.permutations([*points, points[0]]):
        assert area_under_frontier(list(order), nfe_max=32) == pytest.approx(want)


@pytest.mark.parametrize(
    ("points", "nfe_max", "message"),
    [
        ([(0, 0.5)], 8, "got 0 "),
        ([(2, 1.5)], 8, "got 1.5"),
        ([(2, float("nan"))], 8, "got nan"),
        ([(float("inf"), 0.5)], 8, "got inf"),
        ([(2, 0.5)], 1, "nfe_max=1"),
    ],
)
def test_impossible_values_are_named(points, nfe_max, message):
    with pytest.raises(ValueError, match=message):
        area_under_frontier(points, nfe_max)
