"""Several policies as one: each switch decides as its member, in one compiled program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.policies.base import Policy, RevealNone, stack
from mdm_jax.policies.heuristics import ConfidenceThreshold, EntropyBound, Random, TopConfidence
from mdm_jax.policies.switch import as_switch
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Decision, Observation


@pytree_dataclass
class Countdown:
    """Reveals everything at its call number `wait`, which it counts."""

    wait: int

    def init(self, length):
        return jnp.zeros((), jnp.int32)

    def __call__(self, key, observation, state):
        unmask = observation.eligible & (state >= self.wait)
        return Decision(unmask, jnp.zeros_like(unmask)), state + 1


ZOO = (Random(2), ConfidenceThreshold(0.5), Random(4), EntropyBound(0.3), Countdown(2))
TRACES = []


def observe():
    logits = 3 * jax.random.normal(jax.random.key(0), (10, 5))
    some, zero = jnp.arange(10) != 3, jnp.int32(0)
    return Observation(
        logits, jnp.argmax(logits, -1), some, some, zero, jnp.int32(9), zero, jnp.int32(9), zero + 1
    )


@jax.jit
def decide(policy, key, state):
    TRACES.append(type(policy).__name__)
    return policy(key, observe(), state)


def three_decisions(policy):
    """Of three calls in turn, with the memory handed on."""
    state, seen = policy.init(10), []
    for key in jax.random.split(jax.random.key(1), 3):
        decision, state = decide(policy, key, state)
        seen.append(np.stack(decision[:2]))
    return np.stack(seen)


def test_each_switch_decides_as_its_member_in_one_program():
    choices = as_switch(ZOO)
    decisions = [three_decisions(choice) for choice in choices]
    assert TRACES.count("SwitchPolicy") == 1
    for got, choice, policy in zip(decisions, choices, ZOO, strict=True):
        assert choice.chosen == policy and isinstance(choice, Policy)
        np.testing.assert_array_equal(got, three_decisions(policy), err_msg=str(policy))
    assert len({got.tobytes() for got in decisions}) == len(ZOO)
    assert decisions[4][:, 0].sum(axis=1).tolist() == [0, 0, 9]  # it remembers


def test_one_member_per_kind():
    choices = as_switch(ZOO)
    assert [len(choice.members) for choice in choices] == [4] * 5
    assert [int(choice.index) for choice in choices] == [0, 1, 0, 2, 3]
    assert len({jax.tree.structure(choice) for choice in choices}) == 1


@pytest.mark.reuses_keys  # a batched index runs every member on the row's key, and keeps one
def test_switches_can_be_stacked_and_swept():
    stacked = stack(as_switch((TopConfidence(3), RevealNone(), TopConfidence(1))))

    @jax.jit
    @jax.vmap
    def reveal(policy, key):
        return policy(key, observe(), policy.init(10))[0].unmask

    unmask = reveal(stacked, jax.random.split(jax.random.key(2), 3))
    assert unmask.sum(axis=1).tolist() == [3, 0, 9]


def test_no_policies_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        as_switch(())
