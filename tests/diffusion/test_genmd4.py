"""Learned masking rates: bounds and gradients by enumeration, and what the sampler generates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from rated_world import (
    ALL,
    MASK,
    MASKS,
    PAD,
    PROBS,
    SHARE,
    TABLE,
    WRONG,
    bounds_of,
    check_gradient,
    p_value,
    wrong_logits,
)

from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.denoisers.rated_oracle import RatedOracle
from mdm_jax.diffusion.corruption import apply_mask
from mdm_jax.diffusion.elbo import any_order_weights
from mdm_jax.diffusion.genmd4 import Genmd4
from mdm_jax.diffusion.rates import Rates, Shown, log_belief, log_time_of_share, reveal_logits
from mdm_jax.errors import MdmError
from mdm_jax.policies.heuristics import TopConfidence
from mdm_jax.policies.rated_ancestral import RatedAncestral
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.log_prob import log_sampler
from mdm_jax.sampling.loop import sample

ORACLE = oracle_of(TABLE, MASK, MASK, PROBS)
BY_TOKEN = np.array([[0.5, 1.0, 3.0]], np.float32)
BY_POSITION = np.array([[2.0], [0.6], [1.0]], np.float32)
FLAT = np.ones((1, 3), np.float32)


def rates_of(exponents):
    return Rates(jnp.broadcast_to(jnp.asarray(exponents), (3, 3)))  # one shape compiles once


def rated(rates, tokens, is_masked, t):
    """Exact logits at time t."""
    return RatedOracle(ORACLE, rates).at(t)(apply_mask(tokens, is_masked, MASK), ALL)


def wrong(rates, tokens, is_masked, t):
    return wrong_logits(apply_mask(tokens, is_masked, MASK))


def process_at(rates, logits_of, tokens, t):
    """Masked and revealed at the same rates, by logits of that time."""
    return rates, lambda mask: Shown(jnp.arange(3), logits_of(rates, tokens, mask, t), rates)


@pytest.fixture(scope="module")
def bounds():
    def of(rates, logits_of):
        return bounds_of(lambda tokens, t: process_at(rates, logits_of, tokens, t))

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
    """Of the rates of tokens and of positions, which multiply."""
    own = jnp.array([1.0, 1.8, 1.0])
    log_t, width = log_time_of_share(own, ALL, SHARE)
    t = float(np.exp(log_t))
    assert_allclose((2 * t + t**1.8) / 3, SHARE, rtol=1e-5)
    assert_allclose(width, 3 / (2 * t + 1.8 * t**1.8), rtol=1e-5)

    def process(parameters, tokens):
        by_token, by_position = jnp.exp(parameters)
        return process_at(Rates(by_token * by_position[:, None]), wrong, tokens, None)

    start = jnp.log(jnp.concatenate([BY_TOKEN, BY_POSITION.T]))
    check_gradient(start, process, log_t, width)


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


def p_value_at(exponents, seen, steps):
    """That samples at these rates, by a denoiser that believes in those `seen`, follow the joint."""
    denoise = RatedOracle(ORACLE, rates_of(seen))
    return p_value(denoise, RatedAncestral(rates_of(exponents), steps), steps)


def test_many_steps_sample_the_joint():
    """At rates far apart; not in two steps, and not by conditionals that do not know the time."""
    far = BY_TOKEN**2
    assert p_value_at(far, far, 64) > 1e-3
    assert p_value_at(far, far, 2) < 1e-6
    assert p_value_at(far, FLAT, 64) < 1e-6
    assert p_value_at(BY_POSITION**2, FLAT, 64) > 1e-3  # time says nothing of the tokens
    assert p_value_at(BY_TOKEN * BY_POSITION, BY_TOKEN * BY_POSITION, 64) > 1e-3


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
    assert_allclose(Genmd4(start=2.5).rates(Genmd4().init(4, 5, 6)).exponents, np.full((1, 5), 2.5))
    moved = np.full((4, 1), 3.0, np.float32)
    assert_allclose(Genmd4("position", speed=0.0).rates(moved).exponents, np.ones((4, 1)))
    assert Genmd4("both").init(4, 5, 6).shape == (4, 5)
