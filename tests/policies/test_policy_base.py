"""Scores computed from logits, ranking with random ties, stacking, and policies as pytrees."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mdm_jax.diffusion.schedules import Linear
from mdm_jax.policies.base import (
    Policy,
    RevealAll,
    RevealNone,
    confidence,
    entropy,
    margin,
    or_best,
    rank,
    stack,
    top,
)
from mdm_jax.policies.count_schedules import AlphaCounts, LinearCounts
from mdm_jax.policies.heuristics import Ancestral, ConfidenceThreshold, Random, TopConfidence

ELIGIBLE = jnp.array([True, False, True, True, False, True])


@pytest.mark.parametrize("apply_logit_mask", [0, 3])
def test_scores_of_logits(apply_logit_mask):
    logits = np.random.default_rng(apply_logit_mask).normal(size=(9, 6)) * 3
    logits[:, :apply_logit_mask] = -np.inf
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    ordered = np.sort(probs, axis=1)
    logs = np.log(np.where(probs > 0, probs, 1.0))
    logits = jnp.asarray(logits, jnp.float32)
    np.testing.assert_allclose(confidence(logits), ordered[:, -1], rtol=1e-5)
    np.testing.assert_allclose(margin(logits), ordered[:, -1] - ordered[:, -2], atol=1e-6)
    np.testing.assert_allclose(entropy(logits), -(probs * logs).sum(axis=1), atol=1e-5)


def test_scores_at_the_ends():
    sure = jnp.array([[0.0, -jnp.inf, -jnp.inf], [0.0, 0.0, 0.0], [500.0, 0.0, -500.0]])
    np.testing.assert_allclose(confidence(sure), [1.0, 1 / 3, 1.0], rtol=1e-6)
    np.testing.assert_allclose(margin(sure), [1.0, 0.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(entropy(sure), [0.0, np.log(3), 0.0], atol=1e-6)


def test_rank_by_hand():
    scores = jnp.array([0.1, 9.0, 0.3, 0.2, 8.0, 0.4])
    got = rank(jax.random.key(0), scores, ELIGIBLE)
    assert got.tolist() == [3, 4, 1, 2, 5, 0]  # not eligible: after all that are
    chosen = top(jax.random.key(1), scores, ELIGIBLE, 2)
    assert np.flatnonzero(chosen).tolist() == [2, 5]


def test_rank_is_always_a_permutation_however_many_ties_there_are():
    rows = np.random.default_rng(1).integers(0, 3, (200, 6)).astype(np.float32)
    rows[rows == 2] = np.inf
    ranks = jax.vmap(rank, in_axes=(0, 0, None))(
        jax.random.split(jax.random.key(2), 200), jnp.asarray(rows), ELIGIBLE
    )
    np.testing.assert_array_equal(np.sort(ranks, axis=1), np.tile(np.arange(6), (200, 1)))
    for scores, places in zip(rows[:, ELIGIBLE], np.asarray(ranks)[:, ELIGIBLE], strict=True):
        falling = scores[np.argsort(places)]
        assert (falling[1:] <= falling[:-1]).all() and places.max() == 3


def test_ties_are_broken_uniformly():
    """Two of four tied positions behind a better one: each pair equally often."""
    scores = jnp.array([0.5, 9.0, 0.5, 0.5, 9.0, 0.5])
    chosen = jax.vmap(lambda key: top(key, scores, ELIGIBLE, 2))(
        jax.random.split(jax.random.key(3), 3000)
    )
    codes = np.asarray(chosen) @ (2 ** np.arange(6))
    counts = np.unique(codes, return_counts=True)[1]
    assert len(counts) == 6 and stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("count, expected", [(0, 0), (3, 3), (4, 4), (99, 4)])
def test_top_reveals_as_many_as_there_are(count, expected):
    scores = jax.random.normal(jax.random.key(4), (6,))
    assert top(jax.random.key(5), scores, ELIGIBLE, count).sum() == expected
    assert not top(jax.random.key(6), scores, jnp.zeros(6, bool), count).any()


def test_or_best_changes_only_empty_sets():
    scores, none = jnp.array([1.0, 9.0, 3.0, 2.0, 9.0, 0.0]), jnp.zeros(6, bool)
    some = none.at[3].set(True)
    assert or_best(jax.random.key(7), some, scores, ELIGIBLE).tolist() == some.tolist()
    best = or_best(jax.random.key(8), none, scores, ELIGIBLE)
    assert np.flatnonzero(best).tolist() == [2]
    assert not or_best(jax.random.key(9), none, scores, none).any()


def test_stack_puts_an_axis_on_every_leaf():
    stacked = stack([Random(2), Random(4), Random(8)])
    assert stacked.steps.tolist() == [2, 4, 8] and stacked.schedule == LinearCounts()
    thresholds = stack([ConfidenceThreshold(0.5), ConfidenceThreshold(0.75)]).threshold
    assert thresholds.tolist() == [0.5, 0.75]


@pytest.mark.parametrize(
    "policies",
    [[], [Random(2), Ancestral(2)], [Random(2), Random(2, AlphaCounts())]],
    ids=["none", "kinds", "schedules"],
)
def test_stack_refuses_policies_of_different_kinds(policies):
    with pytest.raises(ValueError, match="kinds"):
        stack(policies)


def test_knobs_are_leaves_and_schedules_are_structure():
    assert jax.tree.leaves(TopConfidence(6, AlphaCounts())) == [6]
    assert jax.tree.structure(Random(3)) == jax.tree.structure(Random(5))
    assert jax.tree.structure(Random(3)) != jax.tree.structure(Random(3, AlphaCounts(Linear())))
    assert jax.tree.structure(Random(3)) != jax.tree.structure(TopConfidence(3))
    paths = jax.tree_util.tree_flatten_with_path(ConfidenceThreshold(0.7))[0]
    assert [jax.tree_util.keystr(path) for path, _ in paths] == [".threshold"]
    rebuilt = jax.tree.map(lambda leaf: leaf + 1, Random(3))
    assert rebuilt == Random(4)
    # rebuilding does not judge: a transformation may put anything there
    assert jax.tree.map(lambda leaf: None, Random(3)).steps is None


def test_policies_are_frozen():
    with pytest.raises(AttributeError):
        Random(3).steps = 4


def test_another_knob_does_not_trace_again():
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def knob(policy):
        return jax.tree.leaves(policy)[0] * 2

    assert [int(knob(Random(n))) for n in (1, 2, 3)] == [2, 4, 6]
    with pytest.raises(AssertionError, match="traced"):
        knob(TopConfidence(1))


@pytest.mark.parametrize("double", [RevealAll(), RevealNone()])
def test_reveal_all_and_none_are_policies_without_knobs(double):
    assert isinstance(double, Policy) and jax.tree.leaves(double) == []
    assert double.init(5) == ()
