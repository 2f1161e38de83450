"""Learned masking rates: bounds and gradients by enumeration, and what the sampler generates."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.denoisers.rated_oracle import RatedOracle
from mdm_jax.diffusion.corruption import apply_mask
from mdm_jax.diffusion.elbo import any_order_weights, subset_masks
from mdm_jax.diffusion.genmd4 import Genmd4, poisson_terms, two_masks
from mdm_jax.diffusion.rates import Rates, log_belief, log_time_of_share, reveal_logits
from mdm_jax.errors import MdmError
from mdm_jax.policies.heuristics import TopConfidence
from mdm_jax.policies.rated_ancestral import RatedAncestral
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.log_prob import log_sampler
from mdm_jax.sampling.loop import sample

MASK, PAD = 3, 4
TABLE = np.array(list(itertools.product(range(3), repeat=3)), np.int32)
PROBS = np.random.default_rng(0).dirichlet(np.full(27, 0.7))
ORACLE = oracle_of(TABLE, MASK, MASK, PROBS)
ALL = jnp.ones(3, bool)
MASKS = jnp.asarray(subset_masks(np.ones(3, bool)))
BY_TOKEN = np.array([[0.5, 1.0, 3.0]], np.float32)
BY_POSITION = np.array([[2.0], [0.6], [1.0]], np.float32)
FLAT = np.ones((1, 3), np.float32)
WRONG = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3)), jnp.float32)  # logits


def rates_of(exponents):
    return Rates(jnp.broadcast_to(jnp.asarray(exponents), (3, 3)))  # one shape compiles once


def rated(rates, tokens, is_masked, t):
    """Exact logits at time t."""
    return RatedOracle(ORACLE, rates).at(t)(apply_mask(tokens, is_masked, MASK), ALL)


def wrong(rates, tokens, is_masked, t):
    """Logits of a bad denoiser, which depend on what it sees."""
    seen = jnp.sum(jnp.where(is_masked, 0, tokens + 1))
    return WRONG * (1.0 + 0.3 * seen)


def at_time(rates, tokens, t, logits_of):
    """E over masks at time t of t times the bound's integrand, by enumeration."""

    def one(is_masked):
        own = rates.of(tokens) * jnp.log(t)
        chance = jnp.where(is_masked, jnp.exp(own), -jnp.expm1(own)).prod()
        logits = logits_of(rates, tokens, is_masked, t)
        terms, _ = poisson_terms(rates, logits, tokens, jnp.log(t))
        return chance * jnp.sum(jnp.where(is_masked, terms, 0.0))

    return jnp.sum(jax.vmap(one)(MASKS))


@pytest.fixture(scope="module")
def bounds():
    """The bound of every sequence, the integral over time included."""
    u = (np.arange(200, dtype=np.float32) + 0.5) / 200
    times, measure = jnp.asarray(u**4), jnp.asarray(4 / u)

    def of(rates, logits_of):
        def one(tokens):
            return jnp.mean(
                measure * jax.vmap(lambda t: at_time(rates, tokens, t, logits_of))(times)
            )

        return jax.lax.map(one, jnp.asarray(TABLE))

    return jax.jit(of, static_argnames="logits_of")


@pytest.mark.parametrize("exponents", [BY_TOKEN, BY_POSITION, BY_TOKEN * BY_POSITION])
def test_with_exact_conditionals_the_bound_is_minus_log_p_of_every_sequence(bounds, exponents):
    assert_allclose(bounds(rates_of(exponents), rated), -np.log(PROBS), rtol=2e-3)


@pytest.mark.parametrize("c", [0.5, 1.0, 2.0])
def test_equal_rates_are_md4_for_any_denoiser(bounds, c):
    weights = any_order_weights(np.asarray(MASKS), 3)
    expected = []
    for tokens in TABLE:
        logits = jax.vmap(lambda mask, x=tokens: wrong(None, jnp.asarray(x), mask, None))(MASKS)
        nll = -np.asarray(jax.nn.log_softmax(logits))[:, range(3), tokens]
        expected.append((weights * (nll * np.asarray(MASKS)).sum(1)).sum())
    assert_allclose(bounds(rates_of(c * FLAT), wrong), expected, rtol=3e-3)


def test_token_rates_bound_a_wrong_denoiser_from_above(bounds):
    """By construction at least 0: also where it is not normalised over sequences."""
    found = np.asarray(bounds(rates_of(BY_TOKEN), wrong))
    assert np.exp(-found).sum() < 1.0


@pytest.mark.reuses_keys  # the same masks with and without the score term
def test_two_masks_estimate_the_exact_gradient_and_one_without_its_score_does_not():
    tokens, share = jnp.array([0, 2, 1], jnp.int32), jnp.float32(0.4)
    start = jnp.log(jnp.asarray(BY_TOKEN))
    log_t, width = log_time_of_share(jnp.array([0.5, 3.0, 1.0]), ALL, share)
    t = float(np.exp(log_t))
    assert_allclose((t**0.5 + t**3 + t) / 3, 0.4, rtol=1e-5)
    assert_allclose(width, 3 / (0.5 * t**0.5 + 3 * t**3 + t), rtol=1e-5)

    def estimate(parameters, key, scored):
        rates = Rates(jnp.exp(parameters))
        shown = lambda mask: (jnp.arange(3), wrong(None, tokens, mask, None))  # noqa: E731
        bound, terms = two_masks(key, tokens, ALL, share, rates, shown)
        return bound if scored else jnp.mean(jnp.sum(terms.bound, axis=-1))

    def exact(parameters):
        return width * at_time(Rates(jnp.exp(parameters)), tokens, jnp.float32(t), wrong)

    @jax.jit
    def both(keys):
        one = jax.value_and_grad(estimate)
        return tuple(jax.vmap(lambda key, s=s: one(start, key, s))(keys) for s in (True, False))

    keys = jax.random.split(jax.random.key(0), 40_000)
    expected = jax.jit(jax.value_and_grad(exact))(start)
    (values, scored), (plain, without) = both(keys)
    assert_allclose(values, plain, rtol=1e-5, atol=1e-5)  # the score term has no value
    spread = np.asarray(scored).std(axis=0) / 200
    assert abs(values.mean() - expected[0]) < 4 * values.std() / 200
    assert (abs(scored.mean(axis=0) - expected[1]) < 4 * spread).all() and spread.max() < 0.03
    assert (abs(without.mean(axis=0) - expected[1]) > 8 * spread).any()


def test_when_and_what_of_one_step_multiply_to_the_transition():
    rates, t, s = Rates(jnp.asarray(BY_TOKEN)), jnp.float32(0.8), jnp.float32(0.5)
    tilted, reveal = reveal_logits(rates, WRONG, t, s)
    mu = np.exp(np.asarray(log_belief(rates, WRONG, jnp.log(t))))
    leaves = 1 - (0.5 / 0.8) ** BY_TOKEN
    assert_allclose(reveal, (mu * leaves).sum(1), rtol=1e-5)
    assert_allclose(reveal[:, None] * jax.nn.softmax(tilted), mu * leaves, rtol=1e-5)
    tilted, reveal = reveal_logits(rates, WRONG, t, jnp.float32(0.0))
    assert (reveal == 1).all()
    assert_allclose(jax.nn.softmax(tilted), mu, rtol=1e-5)


def p_value(rates, seen, steps):
    """That samples at `rates`, by a denoiser that believes in those `seen`, follow the joint."""
    config, count = SamplerConfig(MASK, PAD, budget=64, temperature=1.0), 2048
    found = sample(
        jax.random.split(jax.random.key(1), count),
        jnp.full((count, 3), MASK),
        denoise=RatedOracle(ORACLE, Rates(jnp.asarray(seen))),
        policy=RatedAncestral(Rates(jnp.asarray(rates)), steps),
        config=config,
    )
    assert int(found.nfe.max()) <= steps
    counts = np.bincount(np.asarray(found.canvas) @ np.array([9, 3, 1]), minlength=27)
    return stats.chisquare(counts, count * PROBS / PROBS.sum()).pvalue


def test_many_steps_sample_the_joint():
    """At rates far apart; not in two steps, and not by conditionals that do not know the time."""
    far = BY_TOKEN**2
    assert p_value(far, far, 64) > 1e-3
    assert p_value(far, far, 2) < 1e-6
    assert p_value(far, FLAT, 64) < 1e-6


def test_the_probability_of_a_generation_is_that_of_its_tilted_draws():
    """Position 0 in the first of two calls, the others in the second."""
    rates, tokens = Rates(jnp.asarray(BY_TOKEN)), jnp.array([2, 0, 1])
    found = log_sampler(
        jnp.full(3, MASK),
        tokens,
        jnp.array([0, 1, 1]),
        jnp.float32(1.0),
        denoise=RatedOracle(ORACLE, rates),
        policy=RatedAncestral(rates, 2),
        config=SamplerConfig(MASK, PAD, budget=2),
    )
    one, half = jnp.float32(1), jnp.float32(0.5)
    first = reveal_logits(rates, rated(rates, tokens, ALL, one), one, half)
    left = jnp.array([False, True, True])
    second = log_belief(rates, rated(rates, tokens, left, half), jnp.log(half))
    expected = jax.nn.log_softmax(first[0])[0, 2] + second[1, 0] + second[2, 1]
    assert_allclose(found, expected, rtol=1e-5)


def test_exact_conditionals_at_a_time_need_a_policy_that_has_one():
    with pytest.raises(MdmError, match="depends on time"):
        sample(
            jax.random.split(jax.random.key(0), 1),
            jnp.full((1, 3), MASK),
            denoise=RatedOracle(ORACLE, Rates(jnp.asarray(FLAT))),
            policy=TopConfidence(3),
            config=SamplerConfig(MASK, PAD, budget=3),
        )


def test_rates_start_where_they_are_told_to_and_stay_there_without_speed():
    assert_allclose(Genmd4(start=2.5).rates(Genmd4().init(4, 5)).exponents, np.full((1, 5), 2.5))
    moved = np.full((4, 1), 3.0, np.float32)
    assert_allclose(Genmd4("position", speed=0.0).rates(moved).exponents, np.ones((4, 1)))
    assert Genmd4("both").init(4, 5).shape == (4, 5)
