"""Sets with costs between their positions: exact probabilities, and the entropy bound among them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from mdm_jax.policies.base import entropy, stack
from mdm_jax.policies.heuristics import EntropyBound
from mdm_jax.policies.pair_costs import (
    SetScores,
    draw_set,
    greedy_set,
    independent,
    set_log_prob,
)
from mdm_jax.types import Observation

LENGTH = 5
ELIGIBLE = jnp.array([True, True, False, True, True])
RNG = np.random.default_rng(0)
SCORES = SetScores(*(jnp.asarray(RNG.normal(size=s), jnp.float32) for s in ((5,), (5, 2), (5, 2))))


def by_hand(scores, chosen):
    """The scan in plain Python."""
    utilities, left, right = map(np.asarray, scores)
    order = sorted(np.flatnonzero(ELIGIBLE), key=lambda i: -utilities[i])
    taken, log_prob = np.zeros(2), 0.0
    for i in order:
        share = 1 / (1 + np.exp(-(utilities[i] - taken @ right[i])))
        log_prob += np.log(share if chosen[i] else 1 - share)
        taken = taken + chosen[i] * left[i]
    return log_prob


def test_the_probability_of_a_set_is_that_of_its_scan_and_of_its_draws():
    sets = np.array(list(itertools.product([False, True], repeat=4)))
    sets = np.insert(sets, 2, False, axis=1)
    logs = jax.vmap(lambda chosen: set_log_prob(SCORES, chosen, ELIGIBLE))(jnp.asarray(sets))
    np.testing.assert_allclose(logs, [by_hand(SCORES, chosen) for chosen in sets], rtol=1e-5)
    np.testing.assert_allclose(np.exp(logs).sum(), 1.0, rtol=1e-5)
    keys = jax.random.split(jax.random.key(1), 20_000)
    drawn = np.asarray(jax.jit(jax.vmap(lambda k: draw_set(k, SCORES, ELIGIBLE)))(keys))
    counts = np.bincount(drawn @ (1 << np.arange(5)), minlength=32)
    expected = 20_000 * np.exp(logs)
    assert counts.sum() == counts[sets @ (1 << np.arange(5))].sum()
    chi_square = np.sum((counts[sets @ (1 << np.arange(5))] - expected) ** 2 / expected)
    assert chi_square < 37.7  # 99.9 % of chi-square with 15 degrees of freedom


def test_an_entropy_bound_is_among_them():
    logits = jnp.asarray(3 * RNG.normal(size=(200, LENGTH, 4)), jnp.float32)

    def both(key, logits, bound):
        zero = jnp.zeros((), jnp.int32)
        seen = Observation(
            logits, jnp.zeros(LENGTH, jnp.int32), ELIGIBLE, ELIGIBLE, zero, zero, zero, zero, zero
        )
        nats = entropy(logits)
        scores = SetScores(bound.gamma - 3e-4 * nats, nats[:, None], jnp.ones((LENGTH, 1)))
        return bound.unmask(key, seen), greedy_set(scores, ELIGIBLE)

    bounds = stack([EntropyBound(gamma) for gamma in RNG.uniform(0.05, 3.0, 200).tolist()])
    keys = jax.random.split(jax.random.key(2), 200)
    bound, ours = jax.jit(jax.vmap(both))(keys, logits, bounds)
    np.testing.assert_array_equal(bound, ours)
    assert len(np.unique(np.asarray(bound).sum(axis=1))) > 3


def test_without_costs_positions_are_independent():
    plain = independent(SCORES.utilities)
    np.testing.assert_array_equal(greedy_set(plain, ELIGIBLE), ELIGIBLE & (SCORES.utilities > 0))
    free = SCORES._replace(left=jnp.zeros_like(SCORES.left))
    np.testing.assert_array_equal(greedy_set(free, ELIGIBLE), greedy_set(plain, ELIGIBLE))
    chosen = jnp.array([True, False, False, True, False])
    np.testing.assert_allclose(
        set_log_prob(free, chosen, ELIGIBLE), set_log_prob(plain, chosen, ELIGIBLE), rtol=1e-6
    )
