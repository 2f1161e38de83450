"""Recorded actions are the decisions of the policy, or of the expert, with their features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from order_world import LENGTH, MASK, PAD, POLICY, STEPS, Tabular, random_world

from mdm_jax.policies.action_distributions import Categorical, Independent, PlackettLuceStop
from mdm_jax.policies.heuristics import LeftToRight
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.policies.networks.policy_network import PolicyConfig, PolicyNetwork
from mdm_jax.rl.recording import ExpertRecorder, RecordingPolicy
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample

WORLD = random_world(4)
TABLE = jnp.float32(np.random.default_rng(1).normal(size=(STEPS + 1, LENGTH)))
CONFIG = SamplerConfig(MASK, PAD, LENGTH, temperature=1.0, record=True)


def play(actor, rows=64, config=CONFIG):
    keys = jax.random.split(jax.random.key(0), rows)
    denoise = Tabular(jnp.float32(WORLD.logits))
    canvases = jnp.full((rows, LENGTH), MASK)
    found = sample(keys, canvases, denoise=denoise, policy=actor, config=config)
    return jax.tree.map(np.asarray, found)


def learner(family=None, **knobs):
    family = family or Independent()
    return LearnedPolicy(POLICY, {"table": TABLE}, STEPS, family=family, **knobs)


@pytest.mark.parametrize("family", [Independent(), Categorical(), PlackettLuceStop()])
def test_recorded_actions_are_what_was_revealed(family):
    rollout = play(RecordingPolicy(learner(family)))
    action, trace = rollout.trace.record, rollout.trace
    decided = action.allowed.any(-1)
    np.testing.assert_array_equal((action.order > 0)[decided], trace.unmask[decided])
    assert not (action.order > 0)[~action.allowed].any()
    np.testing.assert_array_equal(action.allowed[decided], trace.is_masked[decided])
    # the last permitted step reveals the rest and is no decision
    assert (decided.sum(axis=1) == np.minimum(rollout.nfe, STEPS - 1)).all()
    utilities = jax.vmap(jax.vmap(learner(family).utilities))(
        jax.tree.map(jnp.asarray, action.features)
    )
    assert utilities.shape == (64, LENGTH, LENGTH) and np.unique(utilities).size > 20


def test_an_empty_draw_spends_the_step():
    reluctant = LearnedPolicy(POLICY, {"table": TABLE - 50.0}, STEPS)
    rollout = play(RecordingPolicy(reluctant))
    assert (rollout.nfe == STEPS).all() and (rollout.revealed_at == STEPS - 1).all()
    assert rollout.trace.record.allowed[:, : STEPS - 1].all()


def test_only_the_most_confident_are_candidates():
    rollout = play(RecordingPolicy(learner(candidate_top_k=2)))
    allowed, trace = rollout.trace.record.allowed, rollout.trace
    assert (allowed.sum(-1) <= 2).all() and (allowed[:, 0].sum(-1) == 2).all()
    confident = np.sort(trace.confidence[:, 0], axis=-1)[:, -2:]
    np.testing.assert_allclose(
        trace.confidence[:, 0][allowed[:, 0]].reshape(-1, 2).min(-1), confident[:, 0]
    )


def test_expert_actions_are_recorded_as_those_of_the_learner():
    alone = play(LeftToRight(2), config=CONFIG)
    rollout = play(ExpertRecorder(LeftToRight(2), learner()))
    assert (rollout.revealed_at == [0, 0, 1, 1]).all()
    np.testing.assert_array_equal(rollout.revealed_at, alone.revealed_at)
    action, trace = rollout.trace.record, rollout.trace
    np.testing.assert_array_equal(action.order > 0, trace.unmask)
    np.testing.assert_array_equal(action.allowed, trace.is_masked)  # also those it leaves masked
    first = action.order[:, 0, :2]  # the more confident one comes first
    order = np.argsort(-trace.confidence[:, 0, :2], axis=-1)
    np.testing.assert_array_equal(np.take_along_axis(first, order, -1), [[1, 2]] * 64)


def test_recorders_want_hidden_states_if_the_network_does():
    hidden = LearnedPolicy(PolicyNetwork(PolicyConfig(hidden=True), LENGTH, STEPS), {}, STEPS)
    for policy, wanted in ((learner(), False), (hidden, True)):
        assert RecordingPolicy(policy).wants_hidden is wanted
        assert ExpertRecorder(LeftToRight(2), policy).wants_hidden is wanted
    assert ExpertRecorder(RecordingPolicy(hidden), learner()).wants_hidden
