"""Verifier logits: those of a token as if it were masked, against calls in which it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published_world import MASK, PAD, small

from mdm_jax.denoisers.base import DenoiseVerifier, bind
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig

DENOISE, _ = small("llada")
CANVAS = jnp.array([3, 1, 4, MASK, 5, 9, 2, MASK, PAD, PAD])
VALID = CANVAS != PAD


def one_layer():
    """The same with an idle second block, so that nothing is passed on by others."""
    idle = jax.tree.map(jnp.zeros_like, DENOISE.params["block_1"])
    return bind(DENOISE.module, {**DENOISE.params, "block_1": idle})


@jax.jit
def verify(denoise, canvas, again, positions=None):
    return denoise.with_verifier_logits(canvas, VALID, positions, again, MASK)


@jax.jit
def plain(denoise, canvas, positions):
    return denoise(canvas, VALID, positions)


def test_first_logits_are_those_of_a_plain_call():
    positions = jnp.array([3, 5, 7])
    got = verify(DENOISE, CANVAS, jnp.array([4, 5]), positions)[0]
    np.testing.assert_allclose(got, plain(DENOISE, CANVAS, positions), atol=1e-5)
    everywhere = verify(DENOISE, CANVAS, jnp.array([4, 5]))[0]
    np.testing.assert_allclose(everywhere[positions], got, atol=1e-5)
    assert isinstance(DENOISE, DenoiseVerifier)


@pytest.mark.parametrize("place", [0, 4, 6])
def test_verifier_logits_do_not_depend_on_their_token(place):
    """But everything else, padding apart."""
    denoise, again = one_layer(), jnp.array([place])
    first = verify(denoise, CANVAS, again)[1]
    np.testing.assert_allclose(verify(denoise, CANVAS.at[place].set(8), again)[1], first, atol=1e-5)
    for other in (1, 5, 7):
        assert np.abs(verify(denoise, CANVAS.at[other].set(8), again)[1] - first).max() > 1e-3
    np.testing.assert_allclose(verify(denoise, CANVAS.at[8].set(8), again)[1], first, atol=1e-6)


def test_one_layer_verifier_logits_are_those_of_a_call_with_the_token_masked():
    """In more, the tokens that it sees have seen what it does not."""
    again, masked = jnp.array([4]), CANVAS.at[4].set(MASK)
    for denoise, same in ((one_layer(), True), (DENOISE, False)):
        gap = np.abs(verify(denoise, CANVAS, again)[1] - plain(denoise, masked, again)).max()
        assert (gap < 1e-5) == same


def test_verified_positions_attend_to_each_other():
    """Which is why they are not the same as one look at a time."""
    both, one = (verify(DENOISE, CANVAS, jnp.array(again))[1][0] for again in ([4, 5], [4]))
    assert np.abs(both - one).max() > 1e-3


def test_denoisers_without_verifier_logits():
    with pytest.raises(ValueError, match="shifted logits has no verifier logits"):
        shifted, _ = small("dream")
        shifted.with_verifier_logits(CANVAS, VALID, None, jnp.array([4]), MASK)
    plain = bind(Transformer(TransformerConfig(width=8, depth=1, heads=2), 12), {})
    with pytest.raises(ValueError, match="Transformer gives no verifier logits"):
        plain.with_verifier_logits(CANVAS, VALID, None, jnp.array([4]), MASK)
