"""Dilated schedules, hierarchical decoding and random counts against their rules written out."""

import itertools
import math

import jax
import numpy as np
import pytest
from policy_world import LENGTH, ROWS, assert_reveals_and_goes_on, observe, reveal

from mdm_jax.orders.counts import excess_nats
from mdm_jax.policies.dilated import Dilated
from mdm_jax.policies.hierarchical import Hierarchical
from mdm_jax.policies.random_shift import RandomShift

KINDS = [Dilated(), Hierarchical(), RandomShift(4)]


def softmax(logits):
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("policy", KINDS, ids=lambda p: type(p).__name__)
def test_reveals_what_is_eligible_and_at_least_one_per_unfinished_row(policy):
    for block_step in (0, 3):
        assert_reveals_and_goes_on(policy, block_step)


def dilated_twin(eligible, base):
    """The first of the grids that the paper reveals round by round that is not yet full."""
    rounds = math.ceil(math.log(len(eligible), base) - 1e-9)
    for t in range(1, rounds + 1):
        stride = math.ceil(len(eligible) / base**t)
        grid = [k for k in range(len(eligible)) if eligible[k] and k % stride == 0]
        if grid:
            return grid
    return []


@pytest.mark.parametrize("base", [2, 3, 4])
def test_dilated_equals_its_twin(base):
    observations = observe(5)
    got = reveal(Dilated(base), observations)
    for row, eligible in zip(got, np.asarray(observations.eligible), strict=True):
        assert np.flatnonzero(row).tolist() == dilated_twin(eligible, base)


def test_dilated_takes_as_many_calls_as_the_length_can_be_divided():
    eligible = np.ones((ROWS, LENGTH), bool)
    found = []
    while eligible.any():
        revealed = reveal(Dilated(), observe(7, eligible=eligible))
        eligible &= ~revealed
        found.append(np.flatnonzero(revealed[0]).tolist())
    assert found == [[0, 8], [4, 12], [2, 6, 10, 14], [1, 3, 5, 7, 9, 11, 13, 15]]


def hierarchical_twin(scores, eligible, threshold, run_threshold):
    chosen, places = [], np.flatnonzero(eligible)
    for _, run in itertools.groupby(enumerate(places), lambda item: item[1] - item[0]):
        best = max((place for _, place in run), key=lambda k: scores[k])
        chosen += [best] if scores[best] > run_threshold else []
    chosen += [k for k in places if scores[k] > threshold]
    chosen += [max(places, key=lambda k: scores[k])] if len(places) else []
    return sorted(set(chosen))


@pytest.mark.parametrize("knobs", [(0.9, 0.4), (0.6, 0.7), (2.0, 0.0)])
def test_hierarchical_equals_its_twin(knobs):
    observations = observe(9)
    scores = softmax(np.asarray(observations.logits)).max(axis=-1)
    got = reveal(Hierarchical(*knobs), observations)
    for row, c, eligible in zip(got, scores, np.asarray(observations.eligible), strict=True):
        assert np.flatnonzero(row).tolist() == hierarchical_twin(c, eligible, *knobs)


def test_the_first_count_is_uniform_and_the_others_are_not_random():
    eligible = np.ones((ROWS, LENGTH), bool)
    first = reveal(RandomShift(4), observe(1, eligible=eligible)).sum(axis=1)
    counts = np.bincount(first, minlength=5)[1:]
    assert counts.sum() == ROWS and len(counts) == 4
    assert np.sum((counts - ROWS / 4) ** 2) / (ROWS / 4) < 16.3  # chi-square, 99.9 %, 3 degrees
    eligible[:, :7] = False
    later = observe(2, eligible=eligible, block_step=2)._replace(block_masks=np.full(ROWS, LENGTH))
    later = jax.tree.map(np.asarray, later)
    assert (reveal(RandomShift(4), later).sum(axis=1) == 4).all()


def test_random_counts_lose_no_more_than_they_promise():
    """For any falling profile, exactly: the mean over the first count, and for parity with equality."""

    def mean_loss(profile, size):
        length = len(profile)
        shifted = []
        for first in range(1, size + 1):
            counts = [first] + [size] * ((length - first) // size)
            rest = length - sum(counts)
            shifted.append(excess_nats(profile, [*counts, rest] if rest else counts))
        return np.mean(shifted)

    for seed in range(20):
        profile = np.sort(np.random.default_rng(seed).exponential(size=12))[::-1]
        for size in (2, 3, 4):
            assert mean_loss(profile, size) <= (size - 1) / 2 * (profile[0] - profile[-1]) + 1e-12
    parity = np.log(2) * np.append(np.ones(11), 0.0)
    assert mean_loss(parity, 3) == pytest.approx(2 / 3 * np.log(2))
    assert excess_nats(parity, (3, 3, 3, 3)) == pytest.approx(np.log(2))
