"""Shared by the tests of policies: batches of observations, and decisions on them."""

import jax
import jax.numpy as jnp
import numpy as np

from mdm_jax.policies.base import Policy
from mdm_jax.types import Observation

ROWS, LENGTH, VOCAB = 512, 16, 12  # one shape for all, so that each policy is compiled once


@jax.jit
def decide(policy, keys, observations):
    """The decisions of a batch of rows, and their memories afterwards."""
    return jax.vmap(lambda k, o: policy(k, o, policy.init(LENGTH)))(keys, observations)


def keys(seed):
    return jax.random.split(jax.random.key(seed), ROWS)


def reveal(policy, observations, seed=0):
    return np.asarray(decide(policy, keys(seed), observations)[0].unmask)


def observe(seed=0, logits=None, eligible=None, block_step=0, num_blocks=1):
    """A batch of observations, random where nothing is given."""
    rng = np.random.default_rng(seed)
    if logits is None:
        # from flat to peaked, so that every threshold lies among the scores
        logits = rng.normal(size=(ROWS, LENGTH, VOCAB)) * rng.uniform(1, 9, (ROWS, LENGTH, 1))
    if eligible is None:
        eligible = rng.random((ROWS, LENGTH)) < rng.random((ROWS, 1))
        eligible[0], eligible[1] = True, False
    masks = jnp.asarray(eligible)

    def per_row(value):
        return jnp.broadcast_to(jnp.asarray(value, jnp.int32), (ROWS,))

    logits = jnp.asarray(logits, jnp.float32)
    return Observation(
        logits=logits,
        proposal=jnp.argmax(logits, axis=-1),
        is_masked=masks | jnp.asarray(rng.random((ROWS, LENGTH)) < 0.2),
        eligible=masks,
        step=per_row(block_step),
        budget=per_row(64),
        block_step=per_row(block_step),
        block_masks=jnp.sum(masks, axis=1) + per_row(block_step),
        num_blocks=per_row(num_blocks),
    )


def assert_reveals_and_goes_on(policy, block_step):
    """Something in every unfinished row, nothing that is not eligible; no memory, no re-masking."""
    observations = observe(7, block_step=block_step)
    decision, state = decide(policy, keys(8), observations)
    eligible = np.asarray(observations.eligible)
    assert isinstance(policy, Policy) and state == ()
    assert not np.any(decision.unmask & ~eligible) and not np.any(decision.remask)
    np.testing.assert_array_equal(decision.unmask.any(axis=1), eligible.any(axis=1))


def share_decided_otherwise(policy, other):
    """Share of rows that two policies decide differently, with the same keys."""
    first, second = reveal(policy, observe(12), 13), reveal(other, observe(12), 13)
    return (first != second).any(axis=1).mean()
