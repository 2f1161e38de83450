"""Numbers keep their types, and rows their draws, however JAX is configured around the sampler."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published_world import MASK, PAD, VOCAB, small
from sampling_world import row_keys, run

from mdm_jax.policies.action_distributions import Categorical, Independent, PlackettLuceStop
from mdm_jax.policies.count_schedules import LinearCounts
from mdm_jax.policies.heuristics import (
    Ancestral,
    ConfidenceThreshold,
    EntropyBound,
    Factor,
    LeftToRight,
    LowEntropy,
    Random,
    TopConfidence,
    TopMargin,
)
from mdm_jax.policies.klass import Klass
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.policies.mask_git import MaskGit
from mdm_jax.policies.networks.policy_network import PolicyConfig, PolicyNetwork
from mdm_jax.policies.pc_sampler import PcSampler
from mdm_jax.policies.penalties import CodebookPenalty, PositionPenalty, RepetitionPenalty
from mdm_jax.policies.per_modality import PerModality
from mdm_jax.policies.randomised import Perturbed, SoftmaxConfidence, TopKRandom
from mdm_jax.policies.remasking.p2 import P2, P2Plus
from mdm_jax.policies.remasking.rcr import Rcr
from mdm_jax.policies.remasking.remdm import RemdmCap, RemdmConf, RemdmLoop, RemdmRescale
from mdm_jax.policies.remasking.rounds import RemdmRounds
from mdm_jax.policies.remasking.wino import Wino
from mdm_jax.policies.switch import as_switch
from mdm_jax.policies.threshold_quota import ThresholdQuota
from mdm_jax.rl.recording import ExpertRecorder, RecordingPolicy
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample
from mdm_jax.types import Observation

LENGTH = 12
NETWORK = PolicyNetwork(PolicyConfig(width=8, heads=2), LENGTH, LENGTH)
PROMPTS = np.array([[1, 2, *[MASK] * 8, PAD, PAD], [3, 4, 5, *[MASK] * 8, PAD]])


def learned(family):
    shown = jnp.zeros((LENGTH, VOCAB)), jnp.ones(LENGTH, bool), jnp.int32(1)
    shapes = jax.eval_shape(NETWORK.init, jax.random.key(0), *shown)["params"]
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    return LearnedPolicy(NETWORK, params, LENGTH, family=family, candidate_top_k=3)


def pc_sampler():
    return PcSampler(jnp.full(VOCAB, 1 / VOCAB, jnp.float32))


POLICIES = [  # how to make each
    *(Random, LeftToRight, TopConfidence, TopMargin, LowEntropy, Ancestral, ConfidenceThreshold),
    *(EntropyBound, Factor, ThresholdQuota, TopKRandom, SoftmaxConfidence, pc_sampler),
    *(P2, P2Plus, Rcr, RemdmCap, RemdmRescale, RemdmLoop, RemdmConf, RemdmRounds, Wino),
    *(lambda: Klass(VOCAB), lambda: Perturbed(TopConfidence()), MaskGit),
    *(lambda: RepetitionPenalty(TopConfidence(), VOCAB), lambda: PositionPenalty(TopMargin())),
    lambda: PerModality(Random(), jnp.zeros(LENGTH, jnp.int32), (2,), (0,), (LinearCounts(),)),
    lambda: CodebookPenalty(MaskGit(), jnp.zeros(LENGTH, jnp.int32)),
    *(lambda: learned(Independent()), lambda: learned(Categorical())),
    lambda: RecordingPolicy(learned(PlackettLuceStop())),
    lambda: ExpertRecorder(LeftToRight(4), learned(PlackettLuceStop())),
    lambda: as_switch((Random(), P2()))[1],
]


def decision_of(policy):
    """Shapes and types of what a policy remembers, decides, and remembers next."""
    counts = [jax.ShapeDtypeStruct((), jnp.int32)] * 5
    observation = Observation(
        jax.ShapeDtypeStruct((LENGTH, VOCAB), jnp.float32),
        jax.ShapeDtypeStruct((LENGTH,), jnp.int32),
        *[jax.ShapeDtypeStruct((LENGTH,), bool)] * 2,
        *counts,
        verifier_prob=jax.ShapeDtypeStruct((LENGTH,), jnp.float32),
    )

    def decide(policy, key, observation):
        state = policy.init(LENGTH)
        return state, *policy(key, observation, state)

    return jax.eval_shape(decide, policy, jax.random.key(0), observation)


@pytest.mark.parametrize("make", POLICIES)
def test_no_policy_depends_on_the_default_types(make):
    """With 64-bit defaults every array has the type that it has without them, none is combined with
    one of another rank, and what is remembered keeps its type.
    """
    expected = decision_of(make())
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        got = decision_of(make())
    assert got == expected and got[2] == got[0]


def rollout_of(policy, config, denoise):
    """Shapes and types of rollouts."""
    arguments = {"denoise": denoise, "policy": policy, "config": config}
    keys = row_keys(0, range(len(PROMPTS)))
    return jax.eval_shape(functools.partial(sample, **arguments), keys, PROMPTS)


@pytest.mark.parametrize(
    "policy, settings",
    [
        (Random(5), {"top_p": 0.9, "top_k": 3, "temperature": 1.0, "eos_id": 1, "late_ids": (1,)}),
        (TopConfidence(), {"block_length": 4, "guidance": 1.0}),
        (Wino(), {"block_length": 4}),
        (TopConfidence(), {"block_length": 4, "cache": "prefix"}),
        (TopConfidence(), {"block_length": 4, "cache": "dual"}),
    ],
)
def test_no_sampler_depends_on_the_default_types(policy, settings):
    config = SamplerConfig(MASK, PAD, 8, gen_length=8, record=True, **settings)
    expected = rollout_of(policy, config, small("llada")[0])
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        assert rollout_of(policy, config, small("llada")[0]) == expected


def test_64_bits_change_no_draw():
    expected = run(Random(5))
    with jax.enable_x64(True):
        got = run(Random(5))
    np.testing.assert_array_equal(got.canvas, expected.canvas)
    np.testing.assert_array_equal(got.revealed_at, expected.revealed_at)
