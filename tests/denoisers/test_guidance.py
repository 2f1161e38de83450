"""Guidance by its formula, its limits, and what it may not touch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published_world import MASK, PAD, small

from mdm_jax.denoisers.base import Denoise
from mdm_jax.denoisers.guidance import Guided

DENOISE, _ = small("llada")
CANVAS = jnp.array([3, 1, 4, MASK, 5, MASK, PAD, PAD])
VALID = CANVAS != PAD
RESPONSE = jnp.array([3, 4, 5])


@jax.jit
def logits(denoise, canvas, positions=RESPONSE):
    return denoise(canvas, VALID, positions)


def test_is_its_formula():
    given = logits(DENOISE, CANVAS)
    alone = logits(DENOISE, CANVAS.at[:3].set(MASK))
    assert np.abs(given - alone).max() > 0.1
    for weight in (0.0, 1.5, -1.0):
        expected = alone + (weight + 1) * (given - alone)
        got = logits(Guided(DENOISE, weight, MASK), CANVAS)
        np.testing.assert_allclose(got, expected, atol=1e-4)


def test_weight_zero_is_no_guidance_and_minus_one_no_prompt():
    np.testing.assert_allclose(
        logits(Guided(DENOISE, 0.0, MASK), CANVAS), logits(DENOISE, CANVAS), atol=1e-5
    )
    alone, other = Guided(DENOISE, -1.0, MASK), CANVAS.at[:3].set(jnp.array([7, 7, 2]))
    np.testing.assert_allclose(logits(alone, CANVAS), logits(alone, other), atol=1e-5)


def test_the_weight_is_a_leaf():
    guided = Guided(DENOISE, 1.5, MASK)
    assert isinstance(guided, Denoise) and jax.tree.leaves(guided)[-1] == 1.5
    over_weights = jax.jit(jax.vmap(lambda w: Guided(DENOISE, w, MASK)(CANVAS, VALID, RESPONSE)))
    weights = over_weights(jnp.arange(3.0))
    np.testing.assert_allclose(weights[2] - weights[1], weights[1] - weights[0], atol=1e-4)


def test_needs_the_response():
    with pytest.raises(ValueError, match="gen_length"):
        Guided(DENOISE, 1.0, MASK)(CANVAS, VALID)


CONDITION, MADE = (0, 1, 2), (3, 4, 5)


def test_a_condition_at_known_positions_is_the_prompt():
    """The same logits as with the response as the wanted positions, here read everywhere."""
    known = Guided(DENOISE, 1.5, MASK, condition=CONDITION, response=MADE)
    everywhere = jax.jit(lambda canvas: known(canvas, VALID))(CANVAS)
    np.testing.assert_allclose(
        everywhere[RESPONSE], logits(Guided(DENOISE, 1.5, MASK), CANVAS), atol=1e-4
    )


def test_a_growing_weight_is_that_weight_times_the_revealed_share():
    grows = Guided(DENOISE, 1.5, MASK, True, CONDITION, MADE)
    expected = logits(Guided(DENOISE, 1.5 / 3, MASK), CANVAS)  # one of three is revealed
    np.testing.assert_allclose(logits(grows, CANVAS), expected, atol=1e-4)
    start = CANVAS.at[4].set(MASK)
    assert (logits(grows, start) == logits(DENOISE, start)).all()


def test_weight_zero_is_exact_and_excluded_ids_stay_excluded():
    plain = logits(DENOISE, CANVAS)
    assert (logits(Guided(DENOISE, 0.0, MASK), CANVAS) == plain).all()

    @jax.tree_util.Partial
    def ranged(canvas, valid, positions):
        return DENOISE(canvas, valid, positions).at[:, :2].set(-jnp.inf)

    assert jnp.isneginf(logits(Guided(ranged, 3.0, MASK), CANVAS)[:, :2]).all()
