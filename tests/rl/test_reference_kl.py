"""Divergences from a reference order, against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, rel_entr, softmax

from mdm_jax.rl.reference_kl import MaxConfidence, SoftmaxConfidence, Uniform

UTILITIES = np.array([0.3, -1.0, 2.0, 0.7])
CONFIDENCE = np.array([0.9, 0.4, 0.99, 0.9])
SOME = np.array([True, True, False, True])


def divergence(reference, utilities=UTILITIES, confidence=CONFIDENCE, eligible=SOME):
    return reference(jnp.float32(utilities), jnp.float32(confidence), jnp.asarray(eligible))


def test_values_against_scipy():
    logs, policy = log_softmax(UTILITIES[SOME]), softmax(UTILITIES[SOME])
    # 0.99 may not be chosen, so the two at 0.9 share
    np.testing.assert_allclose(divergence(MaxConfidence()), -logs[[0, 2]].mean(), rtol=1e-5)
    soft = softmax(CONFIDENCE[SOME] / 0.05)
    expected = rel_entr(policy, soft).sum()
    np.testing.assert_allclose(divergence(SoftmaxConfidence()), expected, rtol=1e-4)
    np.testing.assert_allclose(divergence(Uniform()), rel_entr(policy, 1 / 3).sum(), rtol=1e-5)
    assert divergence(SoftmaxConfidence(1.0)) < divergence(SoftmaxConfidence())


@pytest.mark.parametrize(
    "reference, at",
    [(SoftmaxConfidence(0.1), CONFIDENCE / 0.1), (Uniform(), np.zeros(4))],
)
def test_they_vanish_at_the_reference(reference, at):
    assert abs(divergence(reference, at)) < 1e-6
    slope = jax.grad(lambda u: divergence(reference, u))(jnp.float32(at))
    np.testing.assert_allclose(slope, 0.0, atol=1e-6)
    assert divergence(reference) > 0.01


@pytest.mark.parametrize("reference", [MaxConfidence(), SoftmaxConfidence(), Uniform()])
def test_zero_if_nothing_is_eligible(reference):
    nothing = np.zeros(4, bool)
    value, slope = jax.value_and_grad(lambda u: divergence(reference, u, eligible=nothing))(
        jnp.float32(UTILITIES)
    )
    assert value == 0
    np.testing.assert_array_equal(slope, 0.0)


def test_temperatures_are_positive():
    with pytest.raises(ValueError, match="temperature"):
        SoftmaxConfidence(0.0)
