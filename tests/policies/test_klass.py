"""KLASS call by call against a plain twin, and its limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_world import LENGTH, ROWS, VOCAB, keys, observe

from mdm_jax.policies.base import Policy
from mdm_jax.policies.heuristics import ConfidenceThreshold
from mdm_jax.policies.klass import Klass

CALLS = 5


@jax.jit
@jax.vmap
def decide(policy, key, observation, state):
    decision, state = policy(key, observation, state)
    return decision.unmask, state


def calls(policy, drift, block_steps=range(CALLS)):
    """The decisions at successive calls between which the logits move by less and less."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(ROWS, LENGTH, VOCAB)) * 3
    eligible = rng.random((ROWS, LENGTH)) < rng.random((ROWS, 1))
    stacked = jax.tree.map(lambda leaf: jnp.full(ROWS, leaf), policy)
    state = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (ROWS, *leaf.shape)), policy.init(LENGTH)
    )
    for call, block_step in enumerate(block_steps):
        seen = observe(2, logits, eligible, block_step=block_step)
        unmask, state = decide(stacked, keys(call), seen, state)
        yield logits, eligible, np.asarray(unmask)
        logits = logits + drift * 0.3**call * rng.normal(size=logits.shape)


def softmax(logits):
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("history", [1, 2, 3])
@pytest.mark.parametrize("first_step", [0, 4])
def test_equals_its_twin(history, first_step):
    """From a fresh start in a first block, and as if it had come from another block."""
    policy = Klass(VOCAB, 0.6, 0.02, history)
    divergences, before, shown = [], np.zeros((ROWS, LENGTH, VOCAB)), 0
    steps = [first_step + call if call < 2 else call - 2 for call in range(CALLS)]
    for step, (logits, eligible, got) in zip(steps, calls(policy, 1.0, steps), strict=True):
        now = softmax(logits)
        divergences.append((now * np.log((now + 1e-12) / (before + 1e-12))).sum(axis=-1))
        before, c = now, now.max(axis=-1)
        recent = divergences[-history:]
        quiet = np.all([d < 0.02 for d in recent], axis=0) & (len(recent) == history)
        ready = eligible & quiet & (c > 0.6) & (step >= history - 1)
        best = np.where(eligible, c, -1).argmax(axis=1)[:, None] == np.arange(LENGTH)
        expected = np.where(ready.any(axis=1, keepdims=True), ready, best & eligible)
        close = np.any([np.abs(d - 0.02) < 1e-5 for d in recent], axis=0).any(axis=1)
        np.testing.assert_array_equal(got[~close], expected[~close])
        shown += (ready.sum(axis=1) > 1).sum()
    assert shown > 20


def test_constant_distributions_make_it_a_confidence_threshold():
    for call, (logits, eligible, got) in enumerate(calls(Klass(VOCAB, 0.6, 0.01, 2), 0.0)):
        seen = observe(2, logits, eligible)
        threshold = ConfidenceThreshold(0.6 if call >= 2 else 2.0)
        expected = jax.vmap(lambda k, o, p=threshold: p.unmask(k, o))(keys(call), seen)
        np.testing.assert_array_equal(got, expected)


def test_every_knob_changes_something():
    def all_of(*knobs):
        return np.stack([got for *_, got in calls(Klass(VOCAB, *knobs), 1.0)])

    first = all_of(0.6, 0.02, 2)
    for other in [(0.9, 0.02, 2), (0.6, 0.2, 2), (0.6, 0.02, 1)]:
        assert (all_of(*other) != first).any(axis=(0, 2)).mean() > 0.05


def test_reveals_what_is_eligible_and_at_least_one_per_unfinished_row():
    policy = Klass(VOCAB)
    assert isinstance(policy, Policy)
    for _, eligible, got in calls(policy, 0.5):
        assert not (got & ~eligible).any()
        np.testing.assert_array_equal(got.any(axis=1), eligible.any(axis=1))
    with pytest.raises(ValueError, match="history"):
        Klass(VOCAB, history=0)
