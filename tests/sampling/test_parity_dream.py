"""Dream's, Fast-dLLM's and KLASS's samplers on a small Dream, against recorded trajectories."""

import pytest
from parity_world import assert_same, cases, denoiser, rows

from mdm_jax.policies.count_schedules import AncestralCounts
from mdm_jax.policies.heuristics import LowEntropy, TopConfidence, TopMargin
from mdm_jax.policies.klass import Klass
from mdm_jax.policies.threshold_quota import ThresholdQuota

# a switch that is mapped over its index runs every branch, each with the same key
pytestmark = pytest.mark.reuses_keys
VOCAB = 512
BY_ALG = {"maskgit_plus": TopConfidence, "topk_margin": TopMargin, "entropy": LowEntropy}


def policy_of(args):
    if args["alg"] == "confidence_threshold":
        return ThresholdQuota(args["steps"], args["threshold"])
    if args["alg"] == "klass":
        return Klass(VOCAB, args["conf_threshold"], args["kl_threshold"], args["kl_history_length"])
    return BY_ALG[args["alg"]](args["steps"], AncestralCounts(1e-3))


def filters(case):
    return {name: case["args"][name] for name in ("top_p", "top_k") if name in case["args"]}


@pytest.fixture(scope="module")
def folder(shared_dir):
    return shared_dir / "parity/dream_tiny"


def check(recorded, folder, **settings):
    denoise, config = denoiser(folder)
    assert_same(
        recorded, [policy_of(case["args"]) for case in recorded], denoise, config(**settings)
    )


def test_unfiltered(folder):
    """Top probability, margin, entropy; a threshold among the scheduled ones; KLASS; and batches.

    Dream counts by the mean over the rows of a batch, which have as many masks each, so a row on its
    own counts the same. KLASS takes a confidence equal to its threshold here and not on LLaDA.
    """
    names = ("traj_dream.json", "traj_fastdllm.json", "traj_klass.json")
    recorded = [case for name in names for case in cases(folder / name) if not filters(case)]
    batches = [row for case in cases(folder / "traj_dream_batch.json") for row in rows(case)]
    assert (len(recorded), len(batches)) == (32 + 18 + 6, 6)
    check(recorded + batches, folder)


@pytest.mark.parametrize("settings", [{"top_p": 0.9}, {"top_p": 0.98}, {"top_k": 5}], ids=str)
def test_scores_of_filtered_distributions(folder, settings):
    recorded = [case for case in cases(folder / "traj_dream.json") if filters(case) == settings]
    assert len(recorded) == 3
    check(recorded, folder, policy_sees_draw=True, **settings)
