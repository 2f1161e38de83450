"""The adaptive policy: it starts at a heuristic, has one knob, and takes any length."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_world import LENGTH, assert_reveals_and_goes_on, keys, observe, reveal

from mdm_jax.policies.adaptive import AdaptivePolicy, init_adaptive
from mdm_jax.policies.base import confidence, entropy, stack
from mdm_jax.policies.heuristics import ConfidenceThreshold
from mdm_jax.policies.networks.adaptive_network import (
    AdaptiveConfig,
    AdaptiveNetwork,
    ConfidenceStart,
    EntropyStart,
)
from mdm_jax.types import Observation


def fresh(**options):
    return init_adaptive(
        AdaptiveNetwork(AdaptiveConfig(width=8, heads=2, **options)), jax.random.key(0)
    )


def at_start(**options):
    """Without the little that tells positions apart before training."""
    policy = fresh(**options)
    zero = jax.tree.map(jnp.zeros_like, policy.params["utility"])
    return replace(policy, params=policy.params | {"utility": zero})


def moved(policy, seed=1):
    leaves, treedef = jax.tree.flatten(policy.params)

    @jax.jit
    def noisy(leaves):
        keys = jax.random.split(jax.random.key(seed), len(leaves))
        return [x + jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]

    return replace(policy, params=treedef.unflatten(noisy(leaves)))


@jax.jit
def utilities_of(policy, observation):
    return policy.utilities(policy.featurize(observation))


@pytest.mark.parametrize("step", [0, 3])
def test_it_reveals_something_everywhere(step):
    assert_reveals_and_goes_on(moved(fresh()), step)


def test_it_starts_at_a_confidence_threshold():
    observations = observe(1)
    policy = at_start(start=ConfidenceStart(threshold=0.7))
    np.testing.assert_array_equal(
        reveal(policy, observations), reveal(ConfidenceThreshold(0.7), observations)
    )


def test_it_starts_at_a_bound_on_entropies_that_grows_with_the_price():
    observations = observe(2)
    H = np.asarray(jax.vmap(entropy)(observations.logits))
    eligible = np.asarray(observations.eligible)
    start = EntropyStart(offset=4.0, slope=8.0, eagerness=2.0)
    for price, bound in [(0.05, 0.5), (0.01, 0.5), (0.05 * np.e**2, 1.0)]:
        below = eligible & (bound > H)
        got = reveal(replace(at_start(start=start), price=price), observations)
        rows = below.any(axis=1)
        np.testing.assert_array_equal(got[rows], below[rows])
        assert (got[~rows].sum(axis=1) == eligible[~rows].any(axis=1)).all()


def test_every_seed_breaks_the_ties_of_the_start_in_an_order_of_its_own():
    """Where learning starts from equal utilities, it needs to tell positions apart, a little."""
    blank = jax.tree.map(lambda x: x[0], observe(4))
    blank = blank._replace(logits=jnp.zeros_like(blank.logits), eligible=blank.is_masked)
    network = AdaptiveNetwork(AdaptiveConfig(width=8, heads=2, max_length=blank.is_masked.size))
    length = blank.is_masked.size
    found = []
    for seed in range(8):
        policy = init_adaptive(network, jax.random.key(seed), length)
        utilities = np.asarray(utilities_of(policy, blank))[np.asarray(blank.is_masked)]
        assert 0 < np.ptp(utilities) < 0.2
        found.append(int(np.argmax(utilities)))
    assert len(set(found)) > 2


def test_prices_are_one_compiled_call():
    policy, observations = moved(fresh(), 2), observe(3)

    @chex.assert_max_traces(n=1)
    def decide(policy, key, observation):
        return policy.unmask(key, observation)

    run = jax.jit(jax.vmap(jax.vmap(decide, in_axes=(None, 0, 0)), in_axes=(0, None, None)))
    prices = [0.001, 0.05, 2.0]
    got = run(stack([replace(policy, price=p) for p in prices]), keys(0), observations)
    run(stack([replace(policy, price=p) for p in (0.3, 0.4, 0.5)]), keys(0), observations)
    for price, chosen in zip(prices, got, strict=True):
        alone = reveal(replace(policy, price=price), observations)
        np.testing.assert_array_equal(chosen, alone)
    assert (np.asarray(got[0]) != np.asarray(got[2])).any()


def test_the_last_of_its_steps_reveals_all():
    observations = observe(4)._replace(step=jnp.full(512, 2, jnp.int32))
    policy = moved(fresh())
    got = reveal(replace(policy, steps=3), observations)
    np.testing.assert_array_equal(got, observations.eligible)
    early, free = reveal(replace(policy, steps=4), observations), reveal(policy, observations)
    assert (early != observations.eligible).any() and (early != free).any()


def test_it_takes_any_length_unless_it_knows_positions():
    def at(length):
        masked, counts = np.ones(length, bool), np.array([0, 9, 0, length, 1], np.int32)
        logits, proposal = np.ones((length, 5), np.float32), np.zeros(length, np.int32)
        return jax.tree.map(jnp.asarray, Observation(logits, proposal, masked, masked, *counts))

    anywhere, placed = moved(fresh()), moved(fresh(max_length=LENGTH))
    for length in (3, 16, 40):
        unmask = jax.eval_shape(anywhere.unmask, jax.random.key(0), at(length))
        assert unmask.shape == (length,)
    with pytest.raises(ValueError, match="40 positions, more than max_length 16"):
        placed.unmask(jax.random.key(0), at(40))


def test_drawn_sets_follow_the_utilities():
    observation = jax.tree.map(lambda x: x[3], observe(5))
    observation = observation._replace(eligible=observation.is_masked)
    policy = replace(moved(fresh()), policy_temperature=2.0)
    utilities = np.asarray(utilities_of(policy, observation))
    draws = jax.jit(jax.vmap(lambda k: policy.unmask(k, observation)))(
        jax.random.split(jax.random.key(6), 4000)
    )
    eligible = np.asarray(observation.eligible)
    expected = eligible / (1 + np.exp(-utilities / 2))
    empty = np.prod(1 - expected)
    best = eligible & (utilities == utilities[eligible].max())
    error = 4 * np.sqrt(0.25 / 4000)
    np.testing.assert_allclose(np.mean(draws, axis=0), expected + empty * best, atol=error)


@pytest.mark.parametrize("options", [{"price": -1.0}, {"steps": -1}, {"policy_temperature": -0.1}])
def test_knobs_out_of_range(options):
    with pytest.raises(ValueError, match="must be"):
        AdaptivePolicy(AdaptiveNetwork(), {}, **options)


def test_confidence_start_reads_confidence():
    observation = jax.tree.map(lambda x: x[0], observe(7))
    policy = at_start(start=ConfidenceStart(threshold=0.5, slope=2.0, floor=-50.0, ceiling=50.0))
    got = policy.utilities(policy.featurize(observation))
    c = np.asarray(confidence(observation.logits))
    masked = np.asarray(observation.is_masked)
    np.testing.assert_allclose(got[masked], 2 * np.log(c / (1 - c))[masked], rtol=1e-3, atol=1e-3)
