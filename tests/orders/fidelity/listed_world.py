"""A small listed distribution in plain NumPy, and how policies generate it, for tests of fidelity."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.orders.fidelity.teacher_forcing import Forcing, Sequence
from mdm_jax.policies.base import RevealOnly, confidence
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Observation

VOCAB, LENGTH = 2, 4
MASK, PAD = VOCAB, VOCAB + 1
TABLE = np.array(list(itertools.product(range(VOCAB), repeat=LENGTH)))[[0, 3, 5, 6, 9, 10, 12]]
WEIGHTS = np.array([4, 2, 1, 1, 3, 1, 2])
PROBS = WEIGHTS / WEIGHTS.sum()
COPIES = np.repeat(TABLE, WEIGHTS, axis=0)  # equally probable sequences
LOG_P = np.log(np.repeat(PROBS, WEIGHTS))
ORACLE = oracle_of(TABLE, VOCAB, MASK, WEIGHTS.astype(float))
FORCING = Forcing(MASK, PAD, LENGTH)
EVERYTHING = np.array(list(itertools.product(range(VOCAB), repeat=LENGTH)))


def whole(tokens):
    """Sequences without a prompt."""
    tokens = jnp.asarray(tokens)
    return Sequence(tokens, jnp.ones(tokens.shape, bool))


def conditionals(tokens, masked):
    """p(token | what is shown) [length, vocab]; uniform where no sequence fits."""
    fits = PROBS * (tokens == TABLE)[:, ~masked].all(axis=1)
    if not fits.sum():
        return np.full((LENGTH, VOCAB), 1 / VOCAB)
    return np.stack([fits @ (v == TABLE) for v in range(VOCAB)], axis=1) / fits.sum()


@pytree_dataclass
class Rule(RevealOnly):
    """A policy that is easily written in NumPy: reveal what is at least this confident, or the first."""

    threshold: float = 0.7

    def unmask(self, key, observation):
        sure = observation.eligible & (confidence(observation.logits) >= self.threshold - 1e-4)
        first = jnp.arange(LENGTH) == jnp.argmax(observation.eligible)
        return jnp.where(jnp.any(sure), sure, first & observation.eligible)


def rule_path(tokens, threshold):
    """log p of the tokens under `Rule`, token by token, and the sets."""
    masked = np.ones(LENGTH, bool)
    total, sets = 0.0, []
    while masked.any():
        probs = conditionals(tokens, masked)
        chosen = masked & (probs.max(axis=1) >= threshold - 1e-4)
        chosen = chosen if chosen.any() else masked & (np.arange(LENGTH) == np.argmax(masked))
        total += np.log(np.maximum(probs[np.arange(LENGTH), tokens], 1e-300))[chosen].sum()
        sets.append(chosen)
        masked = masked & ~chosen
    return total, sets


def observation_at(tokens, masked):
    """What a policy is shown by the oracle."""
    masked, zero = jnp.asarray(masked), jnp.zeros((), jnp.int32)
    logits = ORACLE(jnp.where(masked, MASK, jnp.asarray(tokens)), jnp.ones(LENGTH, bool))
    counts = zero, zero + LENGTH, zero, zero + LENGTH, zero + 1
    return Observation(logits, jnp.asarray(tokens), masked, masked, *counts)


def row_keys(seed, count):
    return jax.random.split(jax.random.key(seed), count)
