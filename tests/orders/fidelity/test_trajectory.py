"""The estimator by whole trajectories, and its noise beside that of branches."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from listed_world import COPIES, FORCING, LENGTH, ORACLE, row_keys

from mdm_jax.orders.fidelity.config import VineConfig, VineParts
from mdm_jax.orders.fidelity.exploration import FidelityBatch
from mdm_jax.orders.fidelity.trajectory import gradient_noise, trajectory_loss
from mdm_jax.orders.fidelity.vine import vine_loss
from mdm_jax.policies.adaptive import init_adaptive
from mdm_jax.policies.networks.adaptive_network import (
    AdaptiveConfig,
    AdaptiveNetwork,
    EntropyStart,
)


def test_branches_are_less_noisy_at_equal_calls():
    start = EntropyStart(offset=0.5, slope=1.0)
    config = AdaptiveConfig(width=8, heads=2, max_length=LENGTH, start=start)
    policy = init_adaptive(AdaptiveNetwork(config), jax.random.key(0), LENGTH)
    vine = VineConfig(states=42, draws=4, prices=(0.1, 0.1), on_policy=0.0, entropy=0.0)
    parts = VineParts(vine, FORCING)
    batch = FidelityBatch(jnp.asarray(COPIES), jnp.ones(COPIES.shape, bool), jnp.zeros(len(COPIES)))
    fixed = {"batch": batch, "policy": policy, "denoise": ORACLE, "parts": parts}
    branches = gradient_noise(partial(vine_loss, **fixed), policy.params, row_keys(1, 40))
    whole = gradient_noise(partial(trajectory_loss, **fixed), policy.params, row_keys(2, 40))
    assert branches.cost < 0.7 * whole.cost


def test_noise_of_a_known_gradient():
    def loss(params, key):
        noise = jax.random.normal(key, (2,))
        return jnp.sum(params * (jnp.array([3.0, 4.0]) + noise)), {"calls": jnp.asarray(10)}

    found = gradient_noise(loss, jnp.zeros(2), row_keys(3, 2000))
    np.testing.assert_allclose(found.noise_to_signal, 2 / 25, rtol=0.1)
    np.testing.assert_allclose(found.cost, 0.8, rtol=0.1)
