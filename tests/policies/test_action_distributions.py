"""Distributions over sets of positions: draws and log-probabilities against each other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import entr, rel_entr

from mdm_jax.policies.action_distributions import (
    ActionDistribution,
    BernoulliLogProbs,
    Categorical,
    Independent,
    PlackettLuceStop,
    bernoulli_entropy,
    bernoulli_kl,
    bernoulli_log_prob,
    from_log_probs,
    from_logits,
    masked_log_softmax,
)

UTILITIES = np.array([0.4, -1.0, 0.0, 1.5, -0.3])
ELIGIBLE = np.array([True, True, False, True, False])
BITS = 2 ** np.arange(5)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def keys_of(seed, count):
    return jax.random.split(jax.random.key(seed), count)


def test_bernoulli_log_probs_are_accurate_near_zero_and_one():
    log_q = -np.array([1e-30, 1e-9, 1e-6, 1e-3, 0.5, 0.693, 0.694, 1.0, 5.0, 30.0, 1e3])
    log_q = np.float32(log_q)
    bernoulli = jax.jit(from_log_probs)(jnp.asarray(log_q))
    np.testing.assert_array_equal(bernoulli.log_reveal, log_q)
    off = np.log(-np.expm1(log_q.astype(float)))
    np.testing.assert_allclose(bernoulli.log_keep, off, rtol=5e-4, atol=1e-38)
    np.testing.assert_allclose(bernoulli.log_keep[:-2], off[:-2], rtol=2e-6)


def test_probability_one_has_finite_values_and_gradients():
    log_q = jnp.float32([0.0, -1e-9, -0.6931, -0.6932, -3.0, -1e4])
    on, off = (jax.jit(jax.grad(lambda x, i=i: from_log_probs(x)[i].sum()))(log_q) for i in (0, 1))
    assert from_log_probs(log_q)[0][0] == from_log_probs(log_q)[1][0] == 0
    assert on[0] == off[0] == 0
    np.testing.assert_array_equal(on[1:], 1.0)
    inside = np.asarray(log_q[1:], float)
    slope = np.exp(inside) / np.expm1(inside)  # d log(1 - q) / d log q = -q / (1 - q)
    np.testing.assert_allclose(off[1:], slope, rtol=1e-4, atol=1e-30)


def test_bernoulli_log_probs_from_logits():
    bernoulli = from_logits(jnp.float32([-200.0, -1.0, 0.0, 30.0]))
    np.testing.assert_allclose(
        bernoulli.log_reveal, [-200, np.log(sigmoid(-1)), -np.log(2), -np.exp(-30.0)]
    )
    np.testing.assert_allclose(
        bernoulli.log_keep,
        [-np.exp(-200.0), np.log(sigmoid(1)), -np.log(2), -30],
        rtol=1e-6,
        atol=1e-38,
    )


@pytest.mark.parametrize("utilities", [UTILITIES, 0 * UTILITIES, 8 * UTILITIES])
def test_sets_of_independent_positions_sum_to_one(utilities):
    q, eligible = from_logits(jnp.float32(utilities)), jnp.asarray(ELIGIBLE)
    total, found = 0.0, {}
    for bits in itertools.product([False, True], repeat=3):
        reveal = np.zeros(5, bool)
        reveal[ELIGIBLE] = bits
        log_prob = float(bernoulli_log_prob(q, jnp.asarray(reveal), eligible))
        p = np.where(reveal, sigmoid(utilities), sigmoid(-utilities))[ELIGIBLE].prod()
        np.testing.assert_allclose(log_prob, np.log(p), rtol=1e-5)
        found[reveal @ BITS], total = log_prob, total + np.exp(log_prob)
    np.testing.assert_allclose(total, 1.0, rtol=1e-5)
    # what is not eligible says nothing
    more = jnp.asarray([True, False, True, True, True])
    np.testing.assert_allclose(bernoulli_log_prob(q, more, eligible), found[1 + 8], rtol=1e-6)


def test_kl_and_entropy_of_bernoullis():
    q, p = np.meshgrid([1e-6, 0.1, 0.5, 0.9, 0.999], [1e-4, 0.3, 0.5, 0.98])
    q, p = q.ravel(), p.ravel()
    bernoulli = from_log_probs(jnp.float32(np.log(q)))
    policy = from_logits(jnp.float32(np.log(p / (1 - p))))
    kl = rel_entr(q, p) + rel_entr(1 - q, 1 - p)
    np.testing.assert_allclose(bernoulli_kl(bernoulli, policy), kl, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(bernoulli_entropy(bernoulli), entr(q) + entr(1 - q), rtol=2e-4)
    sure = from_log_probs(jnp.zeros(len(p)))
    np.testing.assert_allclose(bernoulli_kl(sure, policy), -np.log(p), rtol=1e-4)
    np.testing.assert_array_equal(bernoulli_entropy(sure), 0.0)
    assert isinstance(sure, BernoulliLogProbs)


def test_masked_log_softmax():
    got = masked_log_softmax(jnp.float32(UTILITIES), jnp.asarray(ELIGIBLE))
    odds = np.where(ELIGIBLE, np.exp(UTILITIES), 0)
    np.testing.assert_allclose(np.exp(got)[ELIGIBLE], (odds / odds.sum())[ELIGIBLE], rtol=1e-5)
    assert (got[~ELIGIBLE] == 0).all()
    none = jnp.zeros(5, bool)
    value, slope = jax.value_and_grad(lambda u: masked_log_softmax(u, none).sum())(got)
    assert value == 0 and (slope == 0).all()


@pytest.mark.parametrize("family", [Independent(), Categorical()])
def test_draws_follow_log_prob(family):
    assert isinstance(family, ActionDistribution)
    draw = jax.jit(jax.vmap(family.draw, in_axes=(0, None, None)))
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = np.asarray(draw(keys, jnp.float32(UTILITIES), jnp.asarray(ELIGIBLE)))
    codes, counts = np.unique(drawn @ BITS, return_counts=True)
    expected = {}
    for bits in itertools.product([False, True], repeat=3):
        reveal = np.zeros(5, bool)
        reveal[ELIGIBLE] = bits
        p = np.where(reveal, sigmoid(UTILITIES), sigmoid(-UTILITIES))[ELIGIBLE].prod()
        if isinstance(family, Categorical):
            p = np.exp(UTILITIES[reveal]).sum() / np.exp(UTILITIES[ELIGIBLE]).sum()
            p *= reveal.sum() == 1
        expected |= {reveal @ BITS: p} if p else {}
    assert sorted(expected) == codes.tolist()
    mean = [4000 * expected[code] for code in codes]
    assert stats.chisquare(counts, mean).pvalue > 1e-3
    none = draw(
        jax.random.split(jax.random.key(1), 4000), jnp.float32(UTILITIES), jnp.zeros(5, bool)
    )
    assert not none.any()


def test_mode():
    utilities, eligible, keys = jnp.float32(UTILITIES), jnp.asarray(ELIGIBLE), keys_of(8, 5)
    assert np.flatnonzero(Independent().mode(keys[0], utilities, eligible)).tolist() == [0, 3]
    assert np.flatnonzero(Categorical().mode(keys[1], utilities, eligible)).tolist() == [3]
    assert not Independent().mode(keys[2], -jnp.abs(utilities), eligible).any()
    for key, family in zip(keys[3:], (Independent(), Categorical()), strict=True):
        assert not family.mode(key, utilities, jnp.zeros(5, bool)).any()


def test_equal_utilities_have_every_mode_equally_often():
    mode = jax.jit(jax.vmap(Categorical().mode, in_axes=(0, None, None)))
    chosen = np.asarray(mode(keys_of(9, 3000), jnp.zeros(5), jnp.asarray(ELIGIBLE)))
    assert (chosen.sum(axis=1) == 1).all() and not chosen[:, ~ELIGIBLE].any()
    assert stats.chisquare(chosen.sum(axis=0)[ELIGIBLE]).pvalue > 1e-3


@pytest.mark.parametrize("order", [[0, 0, 0, 0, 0], [2, 1, 0, 0, 0], [1, 1, 0, 1, 0]])
def test_sets_that_are_never_drawn_have_probability_zero(order):
    """With a gradient of zero: they say nothing about the utilities."""

    def log_prob(utilities):
        return Categorical().log_prob(utilities, jnp.array(order), jnp.asarray(ELIGIBLE))

    value, slope = jax.value_and_grad(log_prob)(jnp.float32(UTILITIES))
    assert value == -jnp.inf and (slope == 0).all()
    stopped = PlackettLuceStop().log_prob(
        jnp.float32(UTILITIES), jnp.zeros(5, jnp.int32), jnp.asarray(ELIGIBLE)
    )
    assert stopped == -jnp.inf  # its sets have at least one position


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, 1.7, 50.0])
def test_scaled_utilities_multiply_the_probabilities(scale):
    utilities = jnp.float32([-8.0, -1.0, 0.0, 0.4, 3.0, 12.0])
    scaled = Independent().scaled(utilities, jnp.float32(scale))
    expected = np.minimum(scale * sigmoid(np.asarray(utilities, float)), 1.0)
    np.testing.assert_allclose(sigmoid(np.asarray(scaled, float)), expected, rtol=1e-4, atol=2e-6)
    np.testing.assert_array_equal(Categorical().scaled(utilities, jnp.float32(scale)), utilities)
