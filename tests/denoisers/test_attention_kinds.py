"""Softmax, sigmoid and scale-invariant attention: written out, padded, and at long distances."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from mdm_jax.denoisers.attention_kinds import WEIGHTS, attention_weights, distance_terms, mix
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.errors import MdmError


def heads(seed, length):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((length, 2, 4)), "f4")


@pytest.mark.parametrize("kind", WEIGHTS)
def test_padding_changes_nothing(kind):
    """The keys of a canvas with padding are those of the canvas alone; sigmoid counts the valid ones."""
    whole = [heads(seed, 9) for seed in range(3)]
    valid = jnp.arange(9) < 6
    padded = jax.jit(mix, static_argnums=0)(kind, *whole, valid)
    alone = jax.jit(mix, static_argnums=0)(kind, *(x[:6] for x in whole), jnp.ones(6, bool))
    assert_allclose(padded[:6], alone, atol=1e-6)


def test_sigmoid_written_out():
    query, key, value = (heads(seed, 5) for seed in range(3))
    valid = np.array([True, True, False, True, True])
    got = mix("sigmoid", query, key, value, jnp.asarray(valid))
    for head in range(2):
        scores = np.asarray(query[:, head] @ key[:, head].T) / 2
        weights = valid / (1 + np.exp(-(scores - np.log(4))))
        assert_allclose(got[:, head], weights @ np.asarray(value[:, head]), atol=1e-5)
    zero = attention_weights("sigmoid", 0 * query, key, jnp.ones(5, bool))
    assert_allclose(zero, 1 / 6, rtol=1e-6)  # 1 / (1 + n)


def test_distance_terms_are_those_of_the_paper():
    """Values of a_t and m_t at tau = 10, and the general form with alpha = beta = sqrt(e)."""
    distance = jnp.array([0, 1, 10, 100, 1000])
    slope, offset = distance_terms(distance)
    assert_allclose(slope, [1, 1.0912, 1.5448, 2.4074, 3.1985], atol=1e-4)
    assert_allclose(offset, [0, -0.1906, -1.3863, -4.7958, -9.2302], atol=1e-4)
    general = 2 * (np.log1p(np.asarray(distance) / 10) - 0.5 + 1)
    assert_allclose(slope**2, general, rtol=1e-6)
    assert_allclose(offset, 1 - general, atol=1e-6)


def test_every_octave_of_distance_has_the_same_expected_weight():
    """E exp(a S + m) = sqrt(e) / (1 + t / tau) for normal S: about tau log 2 sqrt(e) for t..2t."""
    t = np.arange(8000)
    slope, offset = map(np.asarray, distance_terms(t))
    expected = np.exp(offset + slope**2 / 2)
    assert_allclose(expected, np.exp(0.5) / (1 + t / 10), rtol=1e-4)
    octaves = [expected[start : 2 * start].sum() for start in (500, 1000, 2000, 4000)]
    assert_allclose(octaves, 10 * np.log(2) * np.exp(0.5), rtol=0.02)


def test_scale_invariant_is_softmax_of_shifted_scores():
    query, key = heads(0, 12), heads(1, 12)
    got = attention_weights("scale-invariant", query, key, jnp.ones(12, bool))
    scores = np.einsum("qhd,khd->hqk", query, key) / 2
    distance = np.abs(np.arange(12)[:, None] - np.arange(12))
    growth = np.log1p(distance / 10)
    odds = np.exp(np.sqrt(1 + 2 * growth) * scores - 2 * growth)
    assert_allclose(got, odds / odds.sum(-1, keepdims=True), rtol=1e-4)


def test_the_network_attends_as_its_config_says():
    """Same parameters, other logits; the default is softmax."""
    config = TransformerConfig(width=8, depth=1, heads=2)
    modules = [Transformer(replace(config, attention=kind), 4) for kind in WEIGHTS]
    assert modules[0] == Transformer(config, 4)

    @jax.jit
    def logits():
        canvas, valid = jnp.arange(6) % 3, jnp.ones(6, bool)
        params = modules[0].init(jax.random.key(0), canvas, valid)
        return [module.apply(params, canvas, valid) for module in modules]

    plain, *others = logits()
    for other in others:
        assert np.abs(other - plain).max() > 1e-3


def test_two_coordinates_have_no_distance():
    with pytest.raises(MdmError, match="grid_rope two coordinates: leave one out"):
        TransformerConfig(attention="scale-invariant", grid_rope=True)
