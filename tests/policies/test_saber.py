"""Saber call by call against a plain twin."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_world import LENGTH, ROWS, VOCAB, keys, observe

from mdm_jax.policies.remasking.saber import Saber

decide = jax.jit(jax.vmap(lambda policy, *given: policy(*given), in_axes=(None, 0, 0, 0)))


def twin(least, scores, before, masked, past):
    """What is revealed, and what may be re-masked at most: (sets); `past`: confidences at reveals."""
    order = sorted(np.flatnonzero(masked), key=lambda k: -scores[k])
    threshold = np.mean(past) if past else 1.0
    reveal = set(order[:least]) | {k for k in order if scores[k] >= threshold}
    most = min(math.ceil(max(least / 2, len(reveal) / 8)), len(reveal) - 1)
    fallen = [k for k in np.flatnonzero(~masked) if scores[k] < before[k]]
    remask = sorted(fallen, key=lambda k: scores[k] - before[k])[: max(most, 0)]
    past += [scores[k] for k in sorted(reveal)]
    return reveal, set(remask)


@pytest.mark.parametrize("least", [1, 2, 5])
def test_equals_its_twin(least):
    policy, rng = Saber(least), np.random.default_rng(0)
    state = jax.tree.map(lambda x: jnp.broadcast_to(x, (ROWS, *x.shape)), policy.init(LENGTH))
    masked, past = np.ones((ROWS, LENGTH), bool), [[] for _ in range(8)]
    before, remasked = np.zeros((ROWS, LENGTH)), 0
    for call in range(6):
        logits = rng.normal(size=(ROWS, LENGTH, VOCAB)) * 4
        seen = observe(call, logits, masked, block_step=call)._replace(
            is_masked=jnp.asarray(masked)
        )
        decision, state = decide(policy, keys(call), seen, state)
        odds = np.exp(logits.astype(np.float32))
        scores = (odds / odds.sum(axis=-1, keepdims=True)).max(axis=-1)
        for row in range(len(past)):
            given = scores[row], before[row], masked[row], past[row]
            reveal, remask = twin(least, *given)
            assert set(np.flatnonzero(decision.unmask[row])) == reveal
            assert set(np.flatnonzero(decision.remask[row])) == remask
            remasked += len(remask)
        masked = (masked & ~np.asarray(decision.unmask)) | np.asarray(decision.remask)
        before = scores
    assert remasked > 0
