"""What a policy is worth at several prices, and that the better parameters are kept."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from listed_world import COPIES, FORCING, LENGTH, LOG_P, ORACLE, row_keys, whole

from mdm_jax.orders.fidelity.config import VineConfig, VineParts
from mdm_jax.orders.fidelity.evaluation import (
    fidelities,
    held_out,
    price_for,
    prices_between,
    score,
)
from mdm_jax.orders.fidelity.likelihood import order_likelihood
from mdm_jax.orders.fidelity.returns import Fidelity, fidelity
from mdm_jax.policies.adaptive import init_adaptive
from mdm_jax.policies.base import stack
from mdm_jax.policies.heuristics import EntropyBound
from mdm_jax.policies.networks.adaptive_network import (
    AdaptiveConfig,
    AdaptiveNetwork,
    EntropyStart,
)


def test_a_policy_that_grows_eager_with_the_price():
    """At its start it is a bound on entropies, 0.6 nats at a typical price and all at a high one."""
    start = EntropyStart(offset=6.0, slope=10.0, eagerness=10.0)
    network = AdaptiveNetwork(AdaptiveConfig(width=8, heads=2, start=start))
    policy, parts = init_adaptive(network, random.key(0), LENGTH), VineParts(VineConfig(), FORCING)
    data = held_out(random.key(1), whole(COPIES), ORACLE, parts)
    np.testing.assert_allclose(data.log_sequential, LOG_P, atol=1e-5)
    prices = jnp.array([0.05, 5.0])
    policies = stack([replace(policy, price=float(price)) for price in prices])
    found = fidelities(policies, data, ORACLE, parts)
    everything = order_likelihood(
        row_keys(0, len(COPIES)), whole(COPIES), EntropyBound(99.0), ORACLE, FORCING
    )
    at_once = fidelity(everything.log_prob, jnp.asarray(LOG_P), everything.calls)
    np.testing.assert_allclose([x[1] for x in found], at_once, rtol=1e-4)
    assert found.calls[0] > found.calls[1] == 1 and found.overlap[0] > found.overlap[1]
    by_hand = np.mean((found.overlap - prices * found.calls) / (prices + 0.05))
    np.testing.assert_allclose(score(found, prices, parts), by_hand, rtol=1e-5)


def test_prices_are_evenly_spaced_in_logs():
    np.testing.assert_allclose(prices_between(0.01, 1.0, 3), [0.01, 0.1, 1.0], rtol=1e-5)


def test_a_price_for_wanted_calls_or_overlap():
    prices, overlap = jnp.array([0.01, 0.1, 1.0]), jnp.array([0.9, 0.8, 0.2])
    found = Fidelity(overlap, overlap, -jnp.log(overlap), jnp.array([5.0, 3.0, 1.0]))
    for wanted, price in [(6.0, 0.01), (3.0, 0.1), (2.9, 1.0), (0.5, 1.0)]:
        assert price_for(found, prices, calls=wanted) == np.float32(price)
    for wanted, price in [(0.1, 1.0), (0.75, 0.1), (0.85, 0.01), (0.99, 0.01)]:
        assert price_for(found, prices, overlap=wanted) == np.float32(price)
    with pytest.raises(ValueError, match="by calls or by overlap"):
        price_for(found, prices)
