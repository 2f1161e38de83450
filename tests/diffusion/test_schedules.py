"""Schedules: end points, inverses, and weights against their derivatives by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.diffusion.schedules import Cosine, Linear, Polynomial, Schedule, weight

SCHEDULES = [Linear(), Cosine(), Polynomial(2.0), Polynomial(0.5)]
WEIGHTS = {
    Linear(): lambda t: 1 / t,
    Cosine(): lambda t: np.pi / 2 * np.tan(np.pi / 2 * (1 - t)),
    Polynomial(2.0): lambda t: 2 / t,
    Polynomial(0.5): lambda t: 0.5 / t,
}
ALPHAS = {
    Linear(): [0.75, 0.5, 0.25],
    Cosine(): [1 - np.cos(3 * np.pi / 8), 1 - np.sqrt(0.5), 1 - np.cos(np.pi / 8)],
    Polynomial(2.0): [15 / 16, 3 / 4, 7 / 16],
    Polynomial(0.5): [0.5, 1 - np.sqrt(0.5), 1 - np.sqrt(0.75)],
}


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_alpha_falls_from_one_to_zero(schedule):
    alpha = np.asarray(jax.vmap(schedule.alpha)(jnp.linspace(0.0, 1.0, 101)))
    np.testing.assert_allclose(alpha[[0, -1]], [1.0, 0.0], atol=1e-6)
    assert np.all(np.diff(alpha) < 0)
    assert isinstance(schedule, Schedule)


@pytest.mark.parametrize("schedule", ALPHAS, ids=str)
def test_alpha_at_the_quarters(schedule):
    got = jax.vmap(schedule.alpha)(jnp.array([0.25, 0.5, 0.75]))
    np.testing.assert_allclose(got, ALPHAS[schedule], rtol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_time_inverts_alpha(schedule):
    times = jnp.linspace(0.02, 1.0, 50)
    back = jax.vmap(lambda t: schedule.time(schedule.alpha(t)))(times)
    np.testing.assert_allclose(back, times, atol=2e-4)


@pytest.mark.parametrize("schedule", WEIGHTS, ids=str)
def test_weight_is_the_closed_form(schedule):
    times = jnp.linspace(0.05, 0.95, 19)
    got = jax.vmap(lambda t: weight(schedule, t))(times)
    np.testing.assert_allclose(got, WEIGHTS[schedule](np.asarray(times)), rtol=2e-4)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_weight_is_finite_where_alpha_rounds_to_one(schedule):
    """Times that small are drawn; a step there must do nothing rather than spoil the weights."""
    got = jax.vmap(lambda t: weight(schedule, t))(10.0 ** -jnp.arange(3.0, 12.0))
    assert np.all(np.isfinite(got)) and got[0] > 0


def test_schedules_may_be_static_and_the_default_polynomial_is_quadratic():
    assert {Linear(), Cosine(), Polynomial()} == {Linear(), Cosine(), Polynomial(2.0)}


def test_polynomial_of_degree_one_is_linear_and_the_exponent_matters():
    t = jnp.float32(0.3)
    np.testing.assert_allclose(Polynomial(1.0).alpha(t), Linear().alpha(t), rtol=1e-6)
    assert Polynomial(3.0).alpha(t) > Polynomial(2.0).alpha(t)


@pytest.mark.parametrize("exponent", [0.0, -1.0, float("nan")])
def test_polynomial_refuses(exponent):
    with pytest.raises(ValueError, match="exponent"):
        Polynomial(exponent)
