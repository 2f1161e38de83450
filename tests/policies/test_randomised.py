"""Policies that draw positions: their distributions by chi-square, their limits, their knobs."""

import jax.numpy as jnp
import numpy as np
import pytest
from policy_world import (
    LENGTH,
    ROWS,
    VOCAB,
    assert_reveals_and_goes_on,
    observe,
    reveal,
    share_decided_otherwise,
)
from scipy import stats

from mdm_jax.policies.count_schedules import AlphaCounts
from mdm_jax.policies.heuristics import (
    LeftToRight,
    LowEntropy,
    Random,
    TopConfidence,
    TopMargin,
)
from mdm_jax.policies.randomised import Perturbed, SoftmaxConfidence, TopKRandom

ONE = 10**6  # so many steps that each reveals one
COMMON = jnp.asarray(np.random.default_rng(0).dirichlet(np.full(VOCAB, 0.3)), jnp.float32)
POLICIES = [Perturbed(TopMargin()), TopKRandom(), SoftmaxConfidence()]


def one_of(positions):
    eligible = np.zeros((ROWS, LENGTH), bool)
    eligible[:, positions] = True
    return eligible


def same_logits(seed, positions):
    """Every row the same, with confidences far enough apart to matter."""
    row = (
        np.random.default_rng(seed).normal(size=(LENGTH, VOCAB))
        * np.linspace(0.5, 5, LENGTH)[:, None]
    )
    return observe(seed, np.broadcast_to(row, (ROWS, LENGTH, VOCAB)), one_of(positions))


def probs_of(observations):
    odds = np.exp(np.asarray(observations.logits[0], float))
    return odds / odds.sum(axis=1, keepdims=True)


def frequencies(policy, observations, seeds=6):
    return sum(reveal(policy, observations, seed).sum(axis=0) for seed in range(seeds))


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("block_step", [0, 7])
def test_reveals_what_is_eligible_and_at_least_one_per_unfinished_row(policy, block_step):
    assert_reveals_and_goes_on(policy, block_step)


@pytest.mark.parametrize(
    "policy, other",
    [
        (Perturbed(TopMargin(), 0.1), Perturbed(TopMargin(), 0.5)),
        (Perturbed(TopMargin()), Perturbed(LowEntropy())),
        (Perturbed(TopMargin(4)), Perturbed(TopMargin(8))),
        (TopKRandom(ONE), TopKRandom(ONE, candidates=2)),
        (TopKRandom(4), TopKRandom(8)),
        (TopKRandom(), TopKRandom(schedule=AlphaCounts())),
        (SoftmaxConfidence(ONE), SoftmaxConfidence(ONE, policy_temperature=1.0)),
        (SoftmaxConfidence(4), SoftmaxConfidence(8)),
        (SoftmaxConfidence(), SoftmaxConfidence(schedule=AlphaCounts())),
    ],
    ids=str,
)
def test_every_knob_changes_something(policy, other):
    assert share_decided_otherwise(policy, other) > 0.05


# ---- Gumbel noise on scores (alg_temp) ---------------------------------------------------------


def test_perturbed_draws_by_softmax_of_the_scores_without_replacement():
    """Two of four positions: each pair as often as draws one after the other."""
    places, temperature = [2, 5, 9, 14], 0.3
    observations = same_logits(1, places)
    c = probs_of(observations)[places].max(axis=1)
    odds = np.exp(c / temperature)
    expected = {}
    for i in range(4):
        for j in range(4):
            if i != j:
                p = odds[i] / odds.sum() * odds[j] / (odds.sum() - odds[i])
                expected[frozenset((i, j))] = expected.get(frozenset((i, j)), 0) + p
    policy = Perturbed(TopConfidence(2), temperature)
    seen = np.concatenate([reveal(policy, observations, seed) for seed in range(6)])[:, places]
    assert (seen.sum(axis=1) == 2).all()
    counts = [seen[:, list(pair)].all(axis=1).sum() for pair in expected]
    assert stats.chisquare(counts, len(seen) * np.array(list(expected.values()))).pvalue > 1e-3


@pytest.mark.parametrize("base", [TopConfidence(3), TopMargin(5), LowEntropy(40), LeftToRight(4)])
def test_perturbed_without_temperature_is_its_base(base):
    np.testing.assert_array_equal(
        reveal(Perturbed(base, 0.0), observe(2)), reveal(base, observe(2))
    )


def test_perturbed_at_a_high_temperature_is_random():
    observations = same_logits(3, [0, 4, 9, 15])
    counts = frequencies(Perturbed(LowEntropy(ONE), 1e6), observations)[[0, 4, 9, 15]]
    assert counts.sum() == 6 * ROWS and stats.chisquare(counts).pvalue > 1e-3


# ---- UPO's references --------------------------------------------------------------------------


def test_top_k_random_is_uniform_among_the_most_confident():
    observations = same_logits(4, range(2, 12))
    best = 2 + np.argsort(-probs_of(observations)[2:12].max(axis=1))[:3]
    counts = frequencies(TopKRandom(ONE, candidates=3), observations)
    assert counts[best].sum() == 6 * ROWS and stats.chisquare(counts[best]).pvalue > 1e-3


def test_top_k_random_reveals_the_next_best_after_the_candidates():
    """Where more are to be revealed than there are candidates."""
    few, best = (
        reveal(TopKRandom(2, candidates=2), observe(5)),
        reveal(TopConfidence(2), observe(5)),
    )
    enough = np.asarray(observe(5).eligible).sum(axis=1) >= 4
    np.testing.assert_array_equal(few[enough], best[enough])


def test_top_k_random_limits():
    one, all_ = TopKRandom(ONE, candidates=1), TopKRandom(ONE, candidates=LENGTH)
    np.testing.assert_array_equal(reveal(one, observe(6)), reveal(TopConfidence(ONE), observe(6)))
    counts = frequencies(all_, same_logits(6, [1, 2, 3]))[1:4]
    assert stats.chisquare(counts).pvalue > 1e-3


def test_softmax_confidence_sums_over_the_vocabulary():
    places, tau = [1, 6, 7, 12, 15], 0.2
    observations = same_logits(7, places)
    odds = np.exp(probs_of(observations)[places] / tau).sum(axis=1)
    counts = frequencies(SoftmaxConfidence(ONE, policy_temperature=tau), observations)[places]
    assert stats.chisquare(counts, 6 * ROWS * odds / odds.sum()).pvalue > 1e-3


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Perturbed(Random(), -0.1), "policy_temperature"),
        (lambda: TopKRandom(0), "steps"),
        (lambda: TopKRandom(4, candidates=0), "candidates"),
        (lambda: SoftmaxConfidence(policy_temperature=0.0), "policy_temperature"),
    ],
)
def test_knobs_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
