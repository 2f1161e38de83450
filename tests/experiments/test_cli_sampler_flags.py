"""The sampler flags of LLaDA, Dream and Fast-dLLM, as policies and settings of this project."""

from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from experiments import _cli as cli
from experiments import train_denoiser
from mdm_jax.diffusion.schedules import Cosine, Linear
from mdm_jax.policies.count_schedules import (
    AlphaCounts,
    AncestralCounts,
    GivenCounts,
    LinearCounts,
)
from mdm_jax.policies.heuristics import (
    Ancestral,
    ConfidenceThreshold,
    EntropyBound,
    Factor,
    LowEntropy,
    Random,
    TopConfidence,
    TopMargin,
)
from mdm_jax.policies.mask_git import Compounded, MaskGit
from mdm_jax.policies.randomised import SoftmaxConfidence, TopKRandom
from mdm_jax.policies.remasking.p2 import P2, P2Plus
from mdm_jax.policies.remasking.rcr import Rcr
from mdm_jax.policies.remasking.remdm import RemdmCap, RemdmConf, RemdmLoop, RemdmRescale
from mdm_jax.policies.remasking.rounds import RemdmRounds
from mdm_jax.policies.remasking.wino import Wino
from mdm_jax.policies.threshold_quota import ThresholdQuota
from mdm_jax.runs.policy_specs import Klass, PcSampler, Perturbed
from mdm_jax.runs.sampler_flags import SamplerFlags, apply
from mdm_jax.runs.stream_policies import PerModality, PositionPenalty
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.prompted import HumanEval

DREAM = AncestralCounts(1e-3)


@dataclass(frozen=True, kw_only=True)
class Config:
    """What evaluate and sample have in common."""

    sampler_flags: ClassVar[bool] = True
    task: cli.OptionalTask = None
    policy: cli.AnyPolicy = field(default_factory=TopConfidence)
    sampling: cli.Flat[SamplerConfig] = field(default_factory=SamplerConfig)


def parsed(words, config=Config):
    return cli.parse(config, words.split())


@pytest.mark.parametrize(
    "words, policy",
    [
        ("--steps 4 --remasking low_confidence", TopConfidence(4)),
        ("--steps=4", TopConfidence(4)),
        ("--remasking random --steps 6", Random(6)),
        ("--threshold 0.8", ConfidenceThreshold(0.8)),
        ("--steps 16 --threshold 0.8 --remasking low_confidence", ConfidenceThreshold(0.8)),
        ("--factor 2", Factor(2.0)),
        ("--alg maskgit_plus --steps 4", TopConfidence(4, DREAM)),
        ("--alg topk_margin --steps 4", TopMargin(4, DREAM)),
        ("--alg entropy --steps 4 --alg_temp 0", Perturbed(LowEntropy(4, DREAM), 0.0)),
        ("--alg entropy --steps 4", LowEntropy(4, DREAM)),
        ("--alg origin --steps 4", Ancestral(4, DREAM)),
        ("--alg entropy --alg_temp 0.2 --steps 4", Perturbed(LowEntropy(4, DREAM), 0.2)),
        ("--alg confidence_threshold --threshold 0.7 --steps 4", ThresholdQuota(4, 0.7)),
        ("--alg confidence_threshold --steps 4", ThresholdQuota(4, 0.9)),
    ],
)
def test_flags_choose_the_policy(words, policy):
    assert parsed(words).policy == policy


def test_dream_flags_choose_settings_too():
    got = parsed("--alg entropy --steps 24 --temperature 0.1 --top_p 0.9 --top_k 5").sampling
    assert (got.policy_sees_draw, got.budget, got.top_p, got.top_k) == (True, 24, 0.9, 5)
    assert got.temperature == 0.1
    plain = parsed("--steps 24 --block_length 4").sampling
    assert (plain.policy_sees_draw, plain.budget, plain.block_length) == (False, None, 4)
    assert parsed("--alg entropy --steps 24 --budget 9").sampling.budget == 9
    assert parsed("--alg confidence_threshold --steps 5").sampling.budget == 10
    assert parsed("--cfg_scale 1.5").sampling.guidance == 1.5
    assert parsed("--cfg_scale 1.5 policy:rcr").policy == Rcr()


def test_gen_length_is_a_setting_of_the_task():
    config = Config(task=HumanEval(checkpoint="unread", gen_length=64))
    flags = SamplerFlags(alg="confidence_threshold", steps=5, gen_length=16)
    got = apply(flags, config)
    assert (got.sampling.budget, got.task.gen_length) == (21, 16)


def test_configs_without_the_flags_keep_their_own():
    assert parsed("--task chains --steps 6", train_denoiser.Config).steps == 6


@pytest.mark.parametrize(
    "words, expected",
    [
        ("--alg fastest --steps 4", "invalid choice 'fastest' for argument '--alg'"),
        ("--steps 4 --remasking high", "invalid choice 'high' for argument '--remasking'"),
        ("--alg entropy", "--alg entropy needs --steps"),
        ("--remasking random", "give --steps, --threshold or --factor too"),
        ("--threshold 0.9 --factor 1", "--factor 1 has no effect with the other flags"),
        ("--alg origin --steps 4 --threshold 1", "--threshold 1 has no effect with"),
        ("--alg origin --steps 4 --alg_temp 1", "--alg_temp 1 has no effect with"),
        ("--steps 4 policy:random", "give --steps 4 or a policy:NAME with its knobs, not both"),
        ("--steps", "Missing value for argument '--steps'"),
        ("--steps 0", "steps must be at least 1, got 0"),
        ("--gen_length 8", "--gen_length 8: this run has no such setting"),
        ("--task sudoku --gen_length 8", "--gen_length 8: task sudoku has no such setting"),
    ],
)
def test_contradictory_flags(words, expected):
    with pytest.raises(ValueError) as caught:
        parsed(words)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "words, policy",
    [
        (
            "policy:threshold-quota --policy.schedule cosine",
            ThresholdQuota(8, 0.9, AlphaCounts(Cosine())),
        ),
        ("policy:top-k-random --policy.candidates 3", TopKRandom(candidates=3)),
        (
            "policy:softmax-confidence --policy.policy_temperature 0.5",
            SoftmaxConfidence(policy_temperature=0.5),
        ),
        (
            "policy:perturbed policy.base:top-margin --policy.base.steps 3",
            Perturbed(TopMargin(3), 0.1),
        ),
        ("policy:mask-git --policy.annealing compounded", MaskGit(annealing=Compounded())),
        (
            "policy:per-modality --policy.steps 1 2 4 --policy.starts 0 1 1 "
            "--policy.schedules linear 1,2 cosine policy.base:low-entropy",
            PerModality(
                LowEntropy(),
                (1, 2, 4),
                (0, 1, 1),
                (LinearCounts(), GivenCounts((1, 2)), AlphaCounts(Cosine())),
            ),
        ),
        (
            "policy:position-penalty --policy.free 9 policy.base:entropy-bound",
            PositionPenalty(EntropyBound(), free=9),
        ),
        ("policy:pc-sampler --policy.decay 0.5 --policy.steps 3", PcSampler(steps=3, decay=0.5)),
        ("policy:klass --policy.history 3", Klass(history=3)),
        ("policy:remdm-cap --policy.eta 0.5", RemdmCap(eta=0.5)),
        ("policy:remdm-rescale --policy.eta 0.5", RemdmRescale(eta=0.5)),
        ("policy:remdm-conf --policy.steps 5", RemdmConf(5)),
        ("policy:remdm-loop --policy.alpha_on 0.8", RemdmLoop(alpha_on=0.8)),
        ("policy:remdm-rounds --policy.number 3", RemdmRounds(number=3)),
        ("policy:p2 --policy.schedule cosine --policy.eta 2", P2(8, 2.0, Cosine())),
        ("policy:p2-plus --policy.steps 3", P2Plus(3)),
        ("policy:rcr --policy.schedule linear", Rcr(8, Linear())),
        ("policy:wino --policy.threshold_back 0.8", Wino(0.6, 0.8)),
    ],
)
def test_policies_by_name(words, policy):
    assert parsed(words).policy == policy


def test_token_settings():
    got = parsed("--forbid_ids 3 --late_ids 4 5 --top_k 2 --policy_sees_draw").sampling
    assert (got.forbid_ids, got.late_ids, got.top_k, got.policy_sees_draw) == (
        (3,),
        (4, 5),
        2,
        True,
    )
