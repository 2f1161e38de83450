"""Total correlation, from both oracles, against enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from small_world import LENGTH, MASK, ORACLE, PROBS, TABLE, VOCAB, correlation, fitting

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


def test_dependence_of_pairs_equals_the_enumeration():
    """Mean total variation between p(x_i) and p(x_i | x_j), from both oracles, on every canvas."""
    canvases = np.unique([canvas for canvas, _ in canvases_and_sets()], axis=0)
    for oracle, probs in [(ORACLE, PROBS), (CHAIN, CHAIN_PROBS)]:
        given = jax.jit(
            jax.vmap(lambda c, o=oracle: o.with_dependence(c, jnp.ones(LENGTH, bool))[1])
        )
        for canvas, got in zip(canvases, np.asarray(given(jnp.asarray(canvases))), strict=True):
            shares = fitting(canvas, probs)
            expected = np.zeros((LENGTH, LENGTH))
            for i, j in itertools.permutations(range(LENGTH), 2):
                for a, b in itertools.product(range(VOCAB), repeat=2):
                    is_a, is_b = TABLE[:, i] == a, TABLE[:, j] == b
                    both = shares[is_a & is_b].sum()
                    expected[i, j] += abs(both - shares[is_a].sum() * shares[is_b].sum()) / 2
            np.testing.assert_allclose(got, expected, atol=2e-6)
