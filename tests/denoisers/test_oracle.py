"""The oracle against sums over sequences written out in Python."""

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.denoisers.base import Denoise
from mdm_jax.denoisers.oracle import oracle_of

MASK, PAD = 7, 8
TABLE = np.array(list(itertools.product(range(3), repeat=3)))[[0, 1, 3, 5, 8, 13, 13, 14, 20, 26]]
PROBS = np.random.default_rng(0).dirichlet(np.ones(len(TABLE)))
ORACLE = oracle_of(TABLE, 3, MASK, PROBS)
CANVASES = np.array(list(itertools.product([0, 1, 2, MASK], repeat=3)))
EVERYWHERE = jnp.ones(3, bool)


def brute_force(canvas, valid):
    """Conditionals [3, 3] and total mass by Python loops."""
    totals, mass = np.zeros((3, 3)), 0.0
    for row, prob in zip(TABLE, PROBS, strict=True):
        shown = [row[i] == canvas[i] for i in range(3) if valid[i] and canvas[i] != MASK]
        if all(shown):
            mass += prob
            for i in range(3):
                totals[i, row[i]] += prob
    return (totals / mass if mass else np.full((3, 3), 1 / 3)), mass


def conditionals(canvases, valid=EVERYWHERE):
    logits = jax.jit(jax.vmap(ORACLE, in_axes=(0, None)))(jnp.asarray(canvases), valid)
    return np.asarray(jax.nn.softmax(logits, axis=-1))


def test_conditionals_of_every_canvas():
    """Of all 64 canvases, contradictions included: those have uniform conditionals."""
    expected = [brute_force(canvas, [True] * 3) for canvas in CANVASES]
    assert sum(mass == 0 for _, mass in expected) > 10
    np.testing.assert_allclose(conditionals(CANVASES), [p for p, _ in expected], atol=1e-6)


def test_what_is_not_valid_is_ignored():
    valid = jnp.array([True, True, False])
    padded = CANVASES.copy()
    padded[:, 2] = PAD
    expected = [brute_force(canvas, valid)[0] for canvas in CANVASES]
    np.testing.assert_allclose(conditionals(padded, valid), expected, atol=1e-6)
    np.testing.assert_array_equal(conditionals(padded, valid), conditionals(CANVASES, valid))


def test_impossible_tokens_have_probability_zero():
    logits = ORACLE(jnp.array([2, MASK, MASK]), EVERYWHERE)  # only 2 0 2 and 2 2 2
    np.testing.assert_array_equal(
        np.isneginf(logits), [[True, True, False], [False, True, False], [True, True, False]]
    )


def test_log_prob_is_that_of_what_is_shown():
    got = jax.jit(jax.vmap(ORACLE.log_prob))(jnp.asarray(CANVASES))
    mass = np.array([brute_force(canvas, [True] * 3)[1] for canvas in CANVASES])
    np.testing.assert_allclose(np.exp(got), mass, rtol=1e-5, atol=1e-7)
    assert abs(got[-1]) < 1e-6 and np.isneginf(got).sum() == (mass == 0).sum()


def test_probabilities_need_not_be_normalised_and_default_to_the_same_for_all():
    canvas = jnp.array([MASK, MASK, 1])
    scaled = oracle_of(TABLE, 3, MASK, 50 * PROBS)
    np.testing.assert_allclose(
        jax.nn.softmax(scaled(canvas, EVERYWHERE)),
        jax.nn.softmax(ORACLE(canvas, EVERYWHERE)),
        rtol=1e-5,
    )
    np.testing.assert_allclose(scaled.log_prob(canvas), ORACLE.log_prob(canvas), rtol=1e-5)
    same, weighted = oracle_of(TABLE, 3, MASK), oracle_of(TABLE, 3, MASK, np.ones(10))
    np.testing.assert_array_equal(same(canvas, EVERYWHERE), weighted(canvas, EVERYWHERE))
    counts = np.bincount(TABLE[TABLE[:, 2] == 1, 0], minlength=3)  # 1 1 1 stands there twice
    np.testing.assert_allclose(np.exp(same(canvas, EVERYWHERE)[0]), counts, rtol=1e-6)


def test_positions_choose_rows_of_the_logits():
    canvas = jnp.array([MASK, 1, MASK])
    wanted = jnp.array([2, 0, 2])
    np.testing.assert_array_equal(
        ORACLE(canvas, EVERYWHERE, wanted), ORACLE(canvas, EVERYWHERE)[wanted]
    )


def test_it_is_a_denoiser_whose_table_is_data():
    assert isinstance(ORACLE, Denoise)
    shapes = sorted(leaf.shape for leaf in jax.tree.leaves(ORACLE))
    assert shapes == [(10,), (10, 3)]
    assert jax.tree.structure(ORACLE) == jax.tree.structure(oracle_of(TABLE[:4], 3, MASK))
    assert jax.tree.structure(ORACLE) != jax.tree.structure(oracle_of(TABLE, 4, MASK))


@pytest.mark.parametrize(
    "table, vocab, mask_id, probs, message",
    [
        ([[0, 3]], 3, 7, None, "below 3"),
        ([[0, -1]], 3, 7, None, "below 3"),
        (np.zeros((0, 2), int), 3, 7, None, "below 3"),
        ([[0, 1]], 3, 2, None, "mask_id 2"),
        ([0, 1], 3, 7, None, "count, length"),
        ([[0, 1]], 3, 7, [0.5, 0.5], "need 1"),
        ([[0, 1], [1, 0]], 3, 7, [1.5, -0.5], "non-negative"),
        ([[0, 1], [1, 0]], 3, 7, [0.0, 0.0], "non-negative"),
    ],
)
def test_invalid_tables_are_refused(table, vocab, mask_id, probs, message):
    probs = None if probs is None else np.array(probs)
    with pytest.raises(ValueError, match=message):
        # unwrapped: the errors a person sees, who runs without shape checks
        inspect.unwrap(oracle_of)(np.array(table), vocab, mask_id, probs)
