"""The published confidence network: its size, initialisation and features."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.policies.learned import Network
from mdm_jax.policies.networks.confidence_network import (
    ConfidenceConfig,
    ConfidenceNetwork,
    largest,
)

LENGTH, VOCAB = 6, 7
SMALL = ConfidenceConfig(width=8, mlp=16)
LOGITS = 2 * jax.random.normal(jax.random.key(0), (LENGTH, VOCAB))
SOME = jnp.array([True, True, False, True, False, True])


def made(config, hidden=None, seed=1):
    network = ConfidenceNetwork(config)
    features = network.featurize(LOGITS, SOME, jnp.int32(3), hidden)
    params = _init(network, jax.random.key(seed), features)["params"]
    return network, params


_init = jax.jit(ConfidenceNetwork.init, static_argnums=0)


@partial(jax.jit, static_argnums=0)
def _utilities(network, params, logits, is_masked, left, hidden, time):
    features = network.featurize(logits, is_masked, left, hidden, time)
    return network.apply({"params": params}, features)


def shaken(params):
    return jax.tree.map(lambda x: x + 0.3 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), params)


def utilities(network, params, logits=LOGITS, is_masked=SOME, left=3, time=0.25, hidden=None):
    left, time = jnp.int32(left), jnp.float32(time)
    return np.asarray(_utilities(network, params, logits, is_masked, left, hidden, time))


def count(config):
    network = ConfidenceNetwork(config)
    features = network.featurize(LOGITS, SOME, jnp.int32(3))
    shapes = jax.eval_shape(network.init, jax.random.key(0), features)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def test_parameter_count_is_the_published_one():
    assert count(ConfidenceConfig()) == 331_265
    assert count(ConfidenceConfig(top_p=50)) == 331_265 + 6_272


def test_fresh_network_reveals_twelve_percent_at_any_mask_and_time():
    network, params = made(ConfidenceConfig())
    assert isinstance(network, Network)
    start = utilities(network, params)
    np.testing.assert_array_equal(start, utilities(network, params, is_masked=~SOME, time=0.9))
    starts = [utilities(*made(ConfidenceConfig(), seed=seed)) for seed in range(12)]
    mean = np.mean(jax.nn.sigmoid(np.array(starts)))
    assert 0.08 < mean < 0.18
    bold, started = made(replace(SMALL, bias=3.0))
    assert utilities(bold, started).mean() > 1.5


def test_features_are_confidence_mask_and_time_only():
    network, params = made(SMALL)
    params = shaken(params)
    reference = utilities(network, params)
    for change in ({"is_masked": ~SOME}, {"time": 0.75}, {"logits": 2 * LOGITS}):
        assert np.abs(utilities(network, params, **change) - reference).max() > 1e-3, change
    # revealed positions are seen as well
    assert np.abs(utilities(network, params, LOGITS.at[2, 0].add(9.0)) - reference).max() > 1e-3
    same = jnp.roll(LOGITS, 1, axis=1)  # other tokens, as sure
    np.testing.assert_allclose(utilities(network, params, same), reference, atol=1e-5)
    np.testing.assert_array_equal(utilities(network, params, left=9), reference)


def test_positions_are_relative_and_any_length_works():
    network, params = made(SMALL)
    params = shaken(params)
    even = jnp.zeros((LENGTH, VOCAB))
    alike = utilities(network, params, even, jnp.ones(LENGTH, bool))
    np.testing.assert_allclose(alike, alike[0], atol=1e-5)
    longer = utilities(network, params, jnp.zeros((11, VOCAB)), jnp.ones(11, bool))
    assert longer.shape == (11,)
    np.testing.assert_allclose(longer, alike[0], atol=1e-5)
    swapped = utilities(network, params, LOGITS[::-1], SOME[::-1])[::-1]
    assert np.abs(swapped - utilities(network, params)).max() > 1e-4  # rotary: left is not right


def test_top_probabilities_fall_and_are_padded():
    probs = np.asarray(largest(LOGITS, 10))
    np.testing.assert_allclose(
        probs[:, :VOCAB], -np.sort(-jax.nn.softmax(LOGITS), axis=1), rtol=1e-5
    )
    assert (probs[:, VOCAB:] == 0).all()
    np.testing.assert_allclose(largest(LOGITS, 1)[:, 0], probs[:, 0], rtol=1e-6)
    network, params = made(replace(SMALL, top_p=3))
    sharper = LOGITS.at[0, jnp.argmin(LOGITS[0])].add(-5.0)
    assert np.abs(utilities(network, params, sharper) - utilities(network, params)).max() > 1e-5


def test_hidden_states_as_features():
    hidden = jax.random.normal(jax.random.key(3), (LENGTH, 5))
    network, params = made(replace(SMALL, hidden=True), hidden)
    assert network.hidden_features(params) == 5
    assert ConfidenceNetwork(SMALL).hidden_features({}) is None
    one = utilities(network, params, hidden=hidden)
    np.testing.assert_array_equal(one, utilities(network, params, 2 * LOGITS, hidden=hidden))
    assert np.abs(utilities(network, params, hidden=2 * hidden) - one).max() > 1e-3


def test_the_period_of_time_is_a_knob():
    _, params = made(SMALL)
    params = shaken(params)
    networks = [ConfidenceNetwork(replace(SMALL, time_period=period)) for period in (1.0, 100.0)]
    one, other = (utilities(network, params) for network in networks)
    assert np.abs(one - other).max() > 1e-4


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"heads": 3}, {"heads": 8}, {"top_p": 0}, {"time_period": 0.0}]
)
def test_sizes_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(SMALL, **wrong)
