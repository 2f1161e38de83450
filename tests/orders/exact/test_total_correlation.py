"""Total correlation, from both oracles, against enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from small_world import LENGTH, MASK, ORACLE, TABLE, VOCAB, correlation

from mdm_jax.denoisers.markov_oracle import markov_oracle_of
from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.orders.exact.total_correlation import total_correlation

TRANSITIONS = np.array([[0.0, 0.3, 0.7], [0.6, 0.4, 0.0], [0.0, 1.0, 0.0]])
INITIAL = np.array([0.2, 0.3, 0.5])
CHAIN = markov_oracle_of(TRANSITIONS, INITIAL, LENGTH, MASK)
CHAIN_PROBS = INITIAL[TABLE[:, 0]] * TRANSITIONS[TABLE[:, :-1], TABLE[:, 1:]].prod(axis=1)
of_all = jax.jit(jax.vmap(total_correlation, (None, 0, 0)))


def canvases_and_sets():
    """Every set of masked positions, with the tokens of some sequence at the others."""
    rng = np.random.default_rng(1)
    possible = TABLE[CHAIN_PROBS > 0]
    for masked in itertools.product([False, True], repeat=LENGTH):
        canvas = np.where(masked, MASK, possible[rng.integers(len(possible))])
        for chosen in itertools.product([False, True], repeat=LENGTH):
            if not np.any(np.array(chosen) & ~np.array(masked)):
                yield canvas, np.array(chosen)


def test_equals_the_enumeration_for_every_set():
    canvases, sets = map(np.array, zip(*canvases_and_sets(), strict=True))
    for oracle, probs in [(ORACLE, None), (CHAIN, CHAIN_PROBS)]:
        got = of_all(oracle, jnp.asarray(canvases), jnp.asarray(sets))
        given = () if probs is None else (probs,)
        rows = zip(canvases, sets, strict=True)
        expected = [correlation(canvas, np.flatnonzero(s), *given) for canvas, s in rows]
        assert max(expected) > 0.3
        np.testing.assert_allclose(got, expected, atol=2e-6)


def test_independent_tokens_copies_and_contradictions():
    independent = oracle_of(TABLE, VOCAB, MASK)
    copies = oracle_of(np.repeat(np.arange(3)[:, None], LENGTH, axis=1), VOCAB, MASK)
    blank, sets = jnp.full((3, LENGTH), MASK), jnp.asarray([[1, 1, 0, 0], [1, 1, 1, 1], [0] * 4])
    np.testing.assert_allclose(of_all(independent, blank, sets > 0), 0, atol=2e-6)
    np.testing.assert_allclose(
        of_all(copies, blank, sets > 0), np.log(3) * np.array([1, 3, 0]), atol=2e-6
    )
    contradiction = blank.at[:, 2:].set(jnp.array([0, 1]))
    np.testing.assert_allclose(of_all(copies, contradiction, sets > 0)[0], 0, atol=2e-6)
