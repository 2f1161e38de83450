"""A random distribution over four ternary tokens, and its entropies by enumeration."""

import itertools

import numpy as np

from mdm_jax.denoisers.oracle import oracle_of

LENGTH, VOCAB = 4, 3
MASK, PAD = VOCAB, VOCAB + 1
TABLE = np.array(list(itertools.product(range(VOCAB), repeat=LENGTH)))
PROBS = np.random.default_rng(0).dirichlet(np.full(len(TABLE), 0.3))
ORACLE = oracle_of(TABLE, VOCAB, MASK, PROBS)


def fitting(canvas, probs=PROBS, table=TABLE):
    """The probabilities of all sequences given what a canvas shows."""
    fits = probs * np.all((canvas == MASK) | (table == canvas), axis=1)
    return fits / fits.sum()


def entropy_of(chosen, probs=PROBS, table=TABLE):
    """Joint entropy of some positions, nats."""
    codes = (table[:, list(chosen)] @ VOCAB ** np.arange(len(chosen))).astype(int)
    marginal = np.bincount(codes, probs)
    marginal = marginal[marginal > 0]
    return -np.sum(marginal * np.log(marginal))


def correlation(canvas, chosen, probs=PROBS, table=TABLE):
    """Conditional total correlation of a set of positions, nats."""
    given = fitting(canvas, probs, table)
    alone = sum(entropy_of([i], given, table) for i in chosen)
    return alone - entropy_of(chosen, given, table)
