"""Rewards, group advantages, clipping, and the mixture of policy and experts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.rl.advantages import clipped, group_advantages, mixture_log_prob
from mdm_jax.rl.rewards import Additive, Multiplicative

UP = jnp.float32(2.0)
CALLS = (1, 10, 25, 50, 100, 177, 256)


@pytest.mark.parametrize(
    "weight, worth",
    [
        (0.0, [1, 1, 1, 1, 1, 1, 1]),
        (0.3, [1, 0.989, 0.971, 0.938, 0.864, 0.705, 0.189]),
        (1.0, [1, 0.965, 0.906, 0.809, 0.613, 0.312, 0.004]),
        (3.0, [1, 0.898, 0.744, 0.529, 0.231, 0.031, 0]),
        (10.0, [1, 0.699, 0.374, 0.119, 0.008, 0, 0]),
    ],
)
def test_the_published_table_of_speed(weight, worth):
    """arXiv:2512.09106: reward of a correct answer of 256 positions by its number of calls."""
    reward = Multiplicative(weight)
    found = [float(reward(jnp.array(True), jnp.int32(n), 256)) for n in CALLS]
    np.testing.assert_allclose(found, worth, atol=6e-4)
    assert all(float(reward(jnp.array(False), jnp.int32(n), 256)) == 0 for n in CALLS)


def test_the_additive_reward_pays_for_being_fast_and_wrong():
    reward = Additive(1.5)
    right = reward(jnp.array(True), jnp.int32(8), 8)
    wrong = reward(jnp.array(False), jnp.int32(1), 8)
    np.testing.assert_allclose([right, wrong], [1 - 1.5, -1.5 / 8])
    assert wrong > right


@pytest.mark.parametrize("kind", [Multiplicative, Additive])
def test_a_negative_weight_is_refused(kind):
    with pytest.raises(ValueError, match="compute_weight"):
        kind(-0.1)


def test_advantages_are_over_the_group():
    rewards = jnp.float32([1.0, 0.0, 0.5, 0.5])
    np.testing.assert_allclose(group_advantages(rewards), [0.5, -0.5, 0, 0])
    scaled = group_advantages(rewards, by_deviation=True)
    np.testing.assert_allclose(np.std(scaled), 1.0, rtol=1e-3)
    same = group_advantages(jnp.ones(4), by_deviation=True)
    np.testing.assert_array_equal(same, 0.0)


def test_clipping_stops_the_gradient_beyond_the_range():
    ratio = jnp.log(jnp.float32([0.2, 0.8, 1.0, 1.4, 3.0]))
    np.testing.assert_allclose(clipped(ratio, UP, 0.5), [0.4, 1.6, 2.0, 2.8, 3.0], rtol=1e-6)
    np.testing.assert_allclose(clipped(ratio, -UP, 0.5), [-1.0, -1.6, -2, -2.8, -6.0], rtol=1e-6)
    slope = jax.vmap(jax.grad(clipped), in_axes=(0, None, None))
    np.testing.assert_allclose(slope(ratio, UP, 0.5), [0.4, 1.6, 2.0, 2.8, 0.0], rtol=1e-6)
    np.testing.assert_allclose(slope(ratio, -UP, 0.5), [0, -1.6, -2, -2.8, -6], rtol=1e-6)
    extreme = slope(jnp.float32([500.0, -500.0]), -UP, 0.5)
    assert np.isfinite(extreme).all()


def test_mixture_log_prob_of_experts():
    log_prob = jnp.float32([-1e4, -3.0, 0.0])
    found = jax.vmap(lambda x: mixture_log_prob(x, 8, 1))(log_prob)
    np.testing.assert_allclose(found, np.log(8 / 9 * np.exp([-1e4, -3.0, 0.0]) + 1 / 9), rtol=1e-5)
    assert jax.grad(lambda x: mixture_log_prob(x, 8, 1))(jnp.float32(-1e4)) == 0
