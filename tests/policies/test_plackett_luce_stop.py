"""Plackett-Luce with STOP: ordered draws against an enumeration by the definition."""

import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.policies.action_distributions import Categorical, Independent, PlackettLuceStop

UTILITIES = np.array([0.4, -1.0, 3.0, 1.5, -0.3])
ELIGIBLE = np.array([True, True, False, True, False])
FAMILY = PlackettLuceStop(0.5)


def chance(utilities, stop, drawn, eligible):
    """P(these positions in this order, then STOP), draw by draw."""
    left = {int(i): np.exp(utilities[i]) for i in np.flatnonzero(eligible)}
    p = left[drawn[0]] / sum(left.values())
    del left[drawn[0]]
    for position in drawn[1:]:
        p *= left[position] / (sum(left.values()) + np.exp(stop))
        del left[position]
    return p * np.exp(stop) / (sum(left.values()) + np.exp(stop))


def orders(eligible):
    places = np.flatnonzero(eligible)
    for size in range(1, len(places) + 1):
        yield from itertools.permutations(places.tolist(), size)


def places_of(drawn, length=5):
    places = np.zeros(length, np.int32)
    places[list(drawn)] = np.arange(len(drawn)) + 1
    return jnp.asarray(places)


@pytest.mark.parametrize("stop", [0.5, -3.0, 4.0])
@pytest.mark.parametrize("eligible", [ELIGIBLE, np.ones(5, bool), np.eye(5, dtype=bool)[1]])
def test_log_probabilities_are_those_of_the_draws(eligible, stop):
    log_prob = jax.jit(PlackettLuceStop(stop).log_prob)
    utilities, total = jnp.float32(UTILITIES), 0.0
    for drawn in orders(eligible):
        got = float(log_prob(utilities, places_of(drawn), jnp.asarray(eligible)))
        np.testing.assert_allclose(
            got, np.log(chance(UTILITIES, stop, drawn, eligible)), rtol=2e-5, atol=2e-6
        )
        total += np.exp(got)
    np.testing.assert_allclose(total, 1.0, rtol=1e-5)


def test_draws_follow_their_probabilities():
    keys, count = jax.random.split(jax.random.key(0), 40_000), 40_000
    draw = jax.jit(jax.vmap(FAMILY.draw, in_axes=(0, None, None)))
    places = np.asarray(draw(keys, jnp.float32(UTILITIES), jnp.asarray(ELIGIBLE)))
    assert (places[:, ~ELIGIBLE] == 0).all() and (places.max(axis=1) >= 1).all()
    found = Counter(map(bytes, places.astype(np.int32)))
    for drawn in orders(ELIGIBLE):
        p = chance(UTILITIES, FAMILY.stop, drawn, ELIGIBLE)
        share = found.pop(np.asarray(places_of(drawn)).tobytes(), 0) / count
        assert abs(share - p) < 5 * np.sqrt(p * (1 - p) / count) + 1e-4, drawn
    assert not found  # nothing else was ever drawn


@pytest.mark.parametrize("temperature", [0.25, 4.0])
def test_temperature_divides_the_utilities_and_stop(temperature):
    """So that it changes how random a set is, and not only which positions are in it."""
    keys = jax.random.split(jax.random.key(5), 4000)
    draw = jax.jit(jax.vmap(FAMILY.draw, in_axes=(0, None, None, None)))
    utilities, eligible = jnp.float32(UTILITIES), jnp.asarray(ELIGIBLE)
    sizes = (np.asarray(draw(keys, utilities, eligible, temperature)) > 0).sum(axis=1)
    expected = np.zeros(4)
    for drawn in orders(ELIGIBLE):
        tempered = chance(UTILITIES / temperature, FAMILY.stop / temperature, drawn, ELIGIBLE)
        expected[len(drawn)] += tempered
    error = np.sqrt(expected * (1 - expected) / len(sizes))
    share = np.bincount(sizes, minlength=4) / len(sizes)
    assert (np.abs(share - expected) < 4.5 * error + 1e-9).all()


def test_a_low_temperature_draws_the_mode():
    utilities, eligible = jnp.float32(UTILITIES), jnp.asarray(ELIGIBLE)
    for stop in (-2.0, 0.5, 9.0):
        family, keys = PlackettLuceStop(stop), jax.random.split(jax.random.key(6), 50)
        drawn = jax.vmap(lambda k, f=family: f.draw(k, utilities, eligible, 1e-3))(keys) > 0
        mode = family.mode(jax.random.key(7), utilities, eligible)
        assert (drawn == mode).all()


@pytest.mark.parametrize("family", [Independent(), Categorical(), FAMILY])
def test_nothing_eligible_draws_nothing_with_log_prob_zero(family):
    nothing, utilities = jnp.zeros(5, bool), jnp.float32(UTILITIES)
    places = jnp.where(nothing, family.draw(jax.random.key(0), utilities, nothing), 0)
    assert not places.any() and family.log_prob(utilities, places, nothing) == 0
    slope = jax.jit(jax.grad(lambda u: family.log_prob(u, places, nothing)))(utilities)
    np.testing.assert_array_equal(slope, 0.0)


@pytest.mark.parametrize("family", [Independent(), Categorical(), FAMILY])
def test_the_score_has_mean_zero(family):
    """E[d log p / d utilities] = 0, over 4000 draws."""
    utilities, eligible = jnp.float32(UTILITIES), jnp.asarray(ELIGIBLE)

    def slope(key):
        places = family.draw(key, utilities, eligible)
        return jax.grad(lambda u: family.log_prob(u, places, eligible))(utilities)

    slopes = np.asarray(jax.jit(jax.vmap(slope))(jax.random.split(jax.random.key(1), 4000)))
    error = slopes.std(axis=0) / np.sqrt(len(slopes))
    assert (np.abs(slopes.mean(axis=0)) <= 4.5 * error + 1e-7).all()
    assert (slopes[:, ~ELIGIBLE] == 0).all() and (slopes[:, ELIGIBLE].std(axis=0) > 0.1).all()


def test_mode_is_never_empty_and_compares_with_stop():
    utilities, eligible = jnp.float32(UTILITIES), jnp.asarray(ELIGIBLE)
    key = jax.random.key(2)
    assert FAMILY.mode(key, utilities, eligible).tolist() == [False, False, False, True, False]
    assert PlackettLuceStop(9.0).mode(jax.random.key(3), utilities, eligible).sum() == 1
    every = PlackettLuceStop(-9.0).mode(jax.random.key(4), utilities, eligible)
    assert every.tolist() == ELIGIBLE.tolist()
    more = FAMILY.scaled(utilities, jnp.float32(2.0))
    np.testing.assert_allclose(more - utilities, np.log(2), rtol=1e-5)
