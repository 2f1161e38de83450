"""What calls lose along clean sequences, against enumeration; and divergences of listed distributions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_world import LENGTH, MASK, ORACLE, PAD, PROBS, TABLE, VOCAB, correlation, entropy_of

from mdm_jax.denoisers.markov_oracle import markov_oracle_of
from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.orders import counts
from mdm_jax.orders.exact.divergences import Estimate, divergences, jackknife, kl
from mdm_jax.orders.exact.walks import walk_sequences
from mdm_jax.orders.fidelity.teacher_forcing import Forcing
from mdm_jax.orders.profile import reveal_profile
from mdm_jax.orders.variational.model import Sequence, SpecialIds
from mdm_jax.policies.bisection import Bisection
from mdm_jax.policies.count_schedules import GivenCounts
from mdm_jax.policies.heuristics import LeftToRight, Random
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample

walk = jax.jit(walk_sequences, static_argnames="forcing")
FORCING = Forcing(MASK, PAD, LENGTH, clip=1e9)
ALL = Sequence(jnp.asarray(TABLE), jnp.ones(TABLE.shape, bool))
PAIRS = LeftToRight(2, GivenCounts((2, 2)))


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def test_the_mean_loss_of_a_call_is_its_total_correlation_and_the_sum_is_the_divergence():
    """The chain rule of excess nats."""
    found = walk(keys(len(TABLE)), ALL, PAIRS, ORACLE, FORCING)
    np.testing.assert_array_equal(found.counts, np.tile([2, 2, 0, 0], (len(TABLE), 1)))
    after = [correlation(np.where([1, 1, 0, 0], row, MASK), [2, 3]) for row in TABLE]
    means = PROBS @ np.asarray(found.excess)
    blank = np.full(LENGTH, MASK)
    np.testing.assert_allclose(means, [correlation(blank, [0, 1]), PROBS @ after, 0, 0], atol=1e-5)
    q = np.exp(np.asarray(found.log_sampler, float))
    np.testing.assert_allclose(kl(PROBS, q), means.sum(), atol=1e-5)
    np.testing.assert_allclose(q.sum(), 1, atol=1e-5)  # every sequence is possible


def test_the_sampler_generates_with_these_probabilities():
    count, q = 20_000, np.exp(walk(keys(len(TABLE)), ALL, PAIRS, ORACLE, FORCING).log_sampler)
    config = SamplerConfig(MASK, PAD, LENGTH, temperature=1.0)
    blank = jnp.full((count, LENGTH), MASK)
    made = sample(keys(count, 1), blank, denoise=ORACLE, policy=PAIRS, config=config).canvas
    shares = np.bincount(np.asarray(made) @ VOCAB ** np.arange(LENGTH), minlength=len(TABLE))
    codes = TABLE @ VOCAB ** np.arange(LENGTH)
    expected = count * np.asarray(q)
    chi2 = np.sum((shares[codes] - expected) ** 2 / expected)
    assert chi2 < 126  # the 99.9 % point of 80 degrees of freedom is 124.8


def test_bisection_loses_nothing_on_a_chain_and_independent_tokens_lose_nothing_at_all():
    transitions = np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    chain = markov_oracle_of(transitions, np.array([0.2, 0.3, 0.5]), LENGTH, MASK)
    found = walk(keys(len(TABLE)), ALL, Bisection(), chain, FORCING)
    np.testing.assert_allclose(found.excess, 0, atol=2e-6)
    assert (found.calls == 3).all()
    independent = oracle_of(TABLE, VOCAB, MASK)
    for given in [(4,), (1, 3), (2, 1, 1)]:
        found = walk(keys(3), rows(3), LeftToRight(4, GivenCounts(given)), independent, FORCING)
        np.testing.assert_allclose(found.excess, 0, atol=2e-6)


def rows(count):
    return jax.tree.map(lambda leaf: leaf[:count], ALL)


def test_the_profile_predicts_what_random_orders_lose():
    h = []
    for k in range(LENGTH):
        orders = itertools.permutations(range(LENGTH), k + 1)
        h.append(np.mean([entropy_of(o) - entropy_of(o[:-1]) for o in orders]))
    chosen = np.random.default_rng(0).choice(len(TABLE), 4096, p=PROBS)
    drawn = jax.tree.map(lambda leaf: leaf[chosen], ALL)
    for exact in (False, True):
        profile = jax.jit(reveal_profile, static_argnums=(3, 4, 5))(
            keys(len(chosen)), drawn, ORACLE, LENGTH, SpecialIds(MASK, PAD), exact
        )
        error = np.std(profile, axis=0) / np.sqrt(len(chosen))
        assert (np.abs(np.mean(profile, axis=0) - np.array(h)) < 4 * error + 1e-5).all()
    random = Random(2, GivenCounts((1, 3)))
    found = walk(keys(len(chosen), 3), drawn, random, ORACLE, FORCING)
    total = np.asarray(found.excess).sum(axis=1)
    error = total.std() / np.sqrt(len(chosen))
    assert abs(total.mean() - counts.excess_nats(np.array(h), (1, 3))) < 4 * error


def test_divergences_of_a_known_pair():
    p, q = np.array([0.5, 0.5]), np.array([0.3, 0.4])  # 0.3 is invalid
    found = divergences(p, np.stack([q, q, q]))
    assert found.valid == pytest.approx((0.7, 0.0))
    assert found.total_variation == pytest.approx((0.3, 0.0))
    expected = 0.5 * np.log(0.5 / 0.3) + 0.5 * np.log(0.5 / 0.4)
    assert found.data_sampler == pytest.approx((expected, 0.0))
    within = np.array([3, 4]) / 7
    assert found.sampler_data == pytest.approx((np.sum(within * np.log(2 * within)), 0.0))
    never = divergences(p, np.array([[0.5, 0.0], [0.5, 0.0]]))
    assert np.isinf(never.data_sampler.value) and np.isinf(never.data_sampler.error)


def test_the_jackknife_removes_the_bias_of_curvature():
    """The square of a mean of draws is the variance / draws too large; that of the jackknife is not."""
    draws = np.random.default_rng(0).normal(1.0, 1.0, (4000, 8))
    found = [jackknife(lambda mean: float(mean**2), row) for row in draws]
    plain = np.mean(draws.mean(axis=1) ** 2)
    mean = np.mean([estimate.value for estimate in found])
    assert plain - 1 == pytest.approx(1 / 8, abs=0.04) and mean == pytest.approx(1, abs=0.04)
    inside = np.mean([estimate.low < 1 < estimate.high for estimate in found])
    assert 0.85 < inside < 0.97
    assert Estimate(1.0, 0.5).low == pytest.approx(0.02)
