"""Dream's, Fast-dLLM's and KLASS's samplers on a small Dream, against recorded trajectories."""

import pytest
from parity_world import assert_same, denoiser, rows
from recorded import trajectories, uncached

from mdm_jax.policies.count_schedules import AncestralCounts
from mdm_jax.policies.heuristics import LowEntropy, TopConfidence, TopMargin
from mdm_jax.policies.klass import Klass
from mdm_jax.policies.threshold_quota import ThresholdQuota

# a switch that is mapped over its index runs every branch, each with the same key
pytestmark = pytest.mark.reuses_keys
MODEL, VOCAB = "dream_tiny", 512
BY_ALG = {"maskgit_plus": TopConfidence, "topk_margin": TopMargin, "entropy": LowEntropy}


def policy_of(args):
    if args["alg"] == "confidence_threshold":
        return ThresholdQuota(args["steps"], args["threshold"])
    if args["alg"] == "klass":
        return Klass(VOCAB, args["conf_threshold"], args["kl_threshold"], args["kl_history_length"])
    return BY_ALG[args["alg"]](args["steps"], AncestralCounts(1e-3))


def filters(case):
    return {name: case["args"][name] for name in ("top_p", "top_k") if name in case["args"]}


def check(recorded, **settings):
    denoise, config = denoiser(MODEL)
    assert_same(
        recorded, [policy_of(case["args"]) for case in recorded], denoise, config(**settings)
    )


def test_unfiltered():
    """Top probability, margin, entropy; a threshold among the scheduled ones; KLASS; and batches.

    Dream counts by the mean over the rows of a batch, which have as many masks each, so a row on its
    own counts the same. KLASS takes a confidence equal to its threshold here and not on LLaDA.
    """
    cases = uncached(trajectories(MODEL, "dream", "fastdllm", "klass"))
    recorded = [case for case in cases if not filters(case)]
    batches = [row for case in trajectories(MODEL, "dream_batch") for row in rows(case)]
    assert (len(recorded), len(batches)) == (32 + 18 + 6, 6)
    check(recorded + batches)


@pytest.mark.parametrize("settings", [{"top_p": 0.9}, {"top_p": 0.98}, {"top_k": 5}], ids=str)
def test_scores_of_filtered_distributions(settings):
    recorded = [case for case in trajectories(MODEL, "dream") if filters(case) == settings]
    assert len(recorded) == 3
    check(recorded, policy_sees_draw=True, **settings)
