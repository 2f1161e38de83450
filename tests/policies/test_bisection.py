"""Bisection against its rule written out, and how many calls it takes."""

import math

import numpy as np
from policy_world import LENGTH, ROWS, assert_reveals_and_goes_on, observe, reveal

from mdm_jax.policies.bisection import Bisection


def middles(eligible):
    """The middle of each run, the first of two, by a walk along the row."""
    chosen, start = [], None
    for place, open_ in enumerate([*eligible, False]):
        if open_ and start is None:
            start = place
        if not open_ and start is not None:
            chosen.append((start + place - 1) // 2)
            start = None
    return chosen


def test_equals_its_twin():
    observations = observe(5)
    got = reveal(Bisection(), observations)
    for row, eligible in zip(got, np.asarray(observations.eligible), strict=True):
        assert np.flatnonzero(row).tolist() == middles(eligible)


def test_reveals_what_is_eligible_and_at_least_one_per_unfinished_row():
    for block_step in (0, 7):
        assert_reveals_and_goes_on(Bisection(), block_step)


def test_takes_as_many_calls_as_halving_the_longest_gap_does():
    eligible = np.asarray(observe(6).eligible).copy()
    longest = [max(map(len, "".join("01"[int(e)] for e in row).split("0"))) for row in eligible]
    assert max(longest) == LENGTH and min(longest) == 0
    calls = np.zeros(ROWS, int)
    while eligible.any():
        calls += eligible.any(axis=1)
        eligible &= ~reveal(Bisection(), observe(7, eligible=eligible))
    np.testing.assert_array_equal(calls, [math.ceil(math.log2(n + 1)) for n in longest])
