"""The oracle of a chain against the oracle of all its sequences, listed."""

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.denoisers.base import DenoiseExact
from mdm_jax.denoisers.markov_oracle import markov_oracle_of
from mdm_jax.denoisers.oracle import oracle_of

LENGTH, STATES = 5, 3
MASK, PAD = STATES, STATES + 1
TRANSITIONS = np.array([[0.0, 0.3, 0.7], [0.6, 0.4, 0.0], [0.0, 1.0, 0.0]])
INITIAL = np.array([0.2, 0.3, 0.5])  # not the stationary distribution
ORACLE = markov_oracle_of(TRANSITIONS, INITIAL, LENGTH, MASK)
TABLE = np.array(list(itertools.product(range(STATES), repeat=LENGTH)))
PROBS = INITIAL[TABLE[:, 0]] * TRANSITIONS[TABLE[:, :-1], TABLE[:, 1:]].prod(axis=1)
LISTED = oracle_of(TABLE, STATES, MASK, PROBS)
CANVASES = np.array(list(itertools.product([0, 1, 2, MASK], repeat=LENGTH)))
EVERYWHERE = jnp.ones(LENGTH, bool)


@jax.jit
@jax.vmap
def both(canvas):
    """Conditionals and log-probabilities of the two oracles."""
    return [
        (jax.nn.softmax(oracle(canvas, EVERYWHERE)), oracle.log_prob(canvas))
        for oracle in (ORACLE, LISTED)
    ]


def test_equals_the_enumeration_on_every_canvas():
    """Where the revealed tokens are possible; their log-probability on all 1024."""
    (got, log_prob), (expected, listed) = jax.tree.map(np.asarray, both(jnp.asarray(CANVASES)))
    np.testing.assert_allclose(np.exp(log_prob), np.exp(listed), atol=1e-6)
    possible = np.isfinite(listed)
    assert 100 < possible.sum() < 900
    np.testing.assert_allclose(got[possible], expected[possible], atol=1e-6)


def test_a_contradiction_makes_its_own_gap_uniform():
    """0 0 is impossible side by side; 0 _ 0 leads through 1 alone, and 2 _ 2 through nothing."""
    canvas = jnp.array([2, MASK, 2, MASK, MASK])
    probs = jax.nn.softmax(ORACLE(canvas, EVERYWHERE))
    np.testing.assert_allclose(probs[1], 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(probs[3:], [[0, 1, 0], [0.6, 0.4, 0.0]], atol=1e-6)
    assert np.isneginf(ORACLE.log_prob(canvas))


def test_what_is_not_valid_is_open_and_positions_choose_rows():
    canvas, padded = jnp.array([MASK, 1, MASK, 0, MASK]), jnp.array([MASK, 1, MASK, 0, PAD])
    valid = EVERYWHERE.at[4].set(False)
    whole = ORACLE(canvas, EVERYWHERE)
    np.testing.assert_array_equal(ORACLE(padded, valid), whole)
    wanted = jnp.array([2, 0, 2])
    np.testing.assert_array_equal(ORACLE(canvas, EVERYWHERE, wanted), whole[wanted])


def test_it_is_an_exact_denoiser_whose_matrices_are_data():
    for oracle in (ORACLE, LISTED):
        assert isinstance(oracle, DenoiseExact)
        assert (oracle.vocab, oracle.mask_id) == (STATES, MASK)
    assert sorted(leaf.shape for leaf in jax.tree.leaves(ORACLE)) == [(5, 3), (5, 3, 3)]
    with pytest.raises(ValueError, match="canvas of 6 is longer than 5"):
        ORACLE(jnp.full(6, MASK), jnp.ones(6, bool))


@pytest.mark.parametrize(
    "transitions, initial, mask_id, message",
    [
        (TRANSITIONS / 2, INITIAL, MASK, "add up to one"),
        (TRANSITIONS, INITIAL - 0.1, MASK, "add up to one"),
        (TRANSITIONS, np.array([-0.5, 0.5, 1.0]), MASK, "non-negative"),
        (TRANSITIONS, INITIAL, 2, "mask_id 2"),
    ],
)
def test_what_is_no_chain_is_refused(transitions, initial, mask_id, message):
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(markov_oracle_of)(transitions, initial, LENGTH, mask_id)
