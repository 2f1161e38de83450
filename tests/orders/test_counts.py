"""The loss of random orders with given counts, and the counts that lose least."""

import itertools

import numpy as np
import pytest

from mdm_jax.orders.counts import excess_nats, optimal_counts

BITS = np.array(list(itertools.product(range(2), repeat=5)))
JOINT = np.random.default_rng(0).dirichlet(np.full(len(BITS), 0.3))


def entropy(chosen):
    """Joint entropy of some bits, nats."""
    codes = BITS[:, list(chosen)] @ 2 ** np.arange(len(chosen))
    probs = np.bincount(codes.astype(int), JOINT)
    return -np.sum(probs[probs > 0] * np.log(probs[probs > 0]))


def profile():
    """h(k) by enumeration of all sets and positions."""
    values = []
    for k in range(5):
        pairs = itertools.permutations(range(5), k + 1)
        values.append(np.mean([entropy(p) - entropy(p[:-1]) for p in pairs]))
    return np.array(values)


def compositions(total):
    for size in range(1, total + 1):
        for cuts in itertools.combinations(range(1, total), size - 1):
            yield tuple(np.diff([0, *cuts, total]).tolist())


def test_the_loss_is_that_of_all_orders():
    for counts in [(5,), (1, 4), (2, 2, 1), (3, 2), (1, 1, 1, 1, 1)]:
        losses = []
        for order in itertools.permutations(range(5)):
            steps = np.split(np.array(order), np.cumsum(counts)[:-1])
            shown, loss = (), 0.0
            for step in steps:
                alone = sum(entropy((*shown, i)) - entropy(shown) for i in step)
                loss += alone - (entropy((*shown, *step)) - entropy(shown))
                shown = (*shown, *step)
            losses.append(loss)
        np.testing.assert_allclose(excess_nats(profile(), counts), np.mean(losses), atol=1e-9)


def test_the_best_counts_lose_no_more_than_any():
    falling = np.sort(np.random.default_rng(1).exponential(size=6))[::-1]
    for steps in range(1, 7):
        found = optimal_counts(falling, steps)
        assert len(found) == steps
        others = [excess_nats(falling, c) for c in compositions(6) if len(c) == steps]
        np.testing.assert_allclose(excess_nats(falling, found), min(others), atol=1e-12)
    assert excess_nats(falling, optimal_counts(falling, 6)) == pytest.approx(0.0)


def test_independent_positions_and_parity():
    """Independent ones lose nothing; of parity only the last call may not reveal two."""
    for counts in compositions(6):
        assert excess_nats(np.full(6, 0.7), counts) == pytest.approx(0.0)
    parity = np.log(2) * np.append(np.ones(7), 0.0)
    assert optimal_counts(parity, 2) == (7, 1)
    assert excess_nats(parity, (4, 4)) == pytest.approx(np.log(2))


def test_counts_that_cannot_be():
    with pytest.raises(ValueError, match="steps must be at most 4, got 5"):
        optimal_counts(np.ones(4), 5)
    for counts in [(2, 1), (4, 0)]:
        with pytest.raises(ValueError, match="do not share out 4 positions"):
            excess_nats(np.ones(4), counts)
