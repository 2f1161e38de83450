"""Token draws: argmax, temperature and filters by hand, by chi-square, and against Dream's scores."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recorded import arrays
from scipy import stats

from mdm_jax.chunks import LOGITS_AT_ONCE
from mdm_jax.policies.base import confidence, entropy, margin
from mdm_jax.sampling.tokens import (
    demote_tokens,
    draw_logits,
    keep_top_k,
    keep_top_p,
    mask_logits,
    propose,
)

PROBS = np.array([0.15, 0.5, 0.05, 0.3])
LOGITS = jnp.log(jnp.asarray(PROBS, jnp.float32))[None]


def test_forbid_rules_out_ids_of_the_vocabulary():
    logits = jnp.arange(8.0).reshape(2, 4)
    got = mask_logits(logits, (3, 1))
    assert np.isneginf(got[:, [1, 3]]).all()
    np.testing.assert_array_equal(got[:, [0, 2]], logits[:, [0, 2]])
    np.testing.assert_array_equal(mask_logits(logits, (7, -1)), logits)  # -1 is no last token
    assert np.isneginf(mask_logits(logits, (7, 2))).sum() == 2


@pytest.mark.parametrize(
    "top_p, kept",
    [
        (0.01, [1]),
        (0.49, [1]),
        (0.51, [1, 3]),
        (0.79, [1, 3]),
        (0.81, [0, 1, 3]),
        (0.96, [0, 1, 2, 3]),
    ],
)
def test_top_p_keeps_the_token_that_crosses(top_p, kept):
    got = keep_top_p(LOGITS, top_p)
    assert np.flatnonzero(np.isfinite(got[0])).tolist() == kept
    np.testing.assert_array_equal(got[0, jnp.array(kept)], LOGITS[0, jnp.array(kept)])


def test_top_p_leaves_ruled_out_tokens_out():
    logits = jnp.array([[-jnp.inf, 0.0, -1.0, -jnp.inf]])
    assert np.flatnonzero(np.isfinite(keep_top_p(logits, 0.999)[0])).tolist() == [1, 2]


@pytest.mark.parametrize("top_p", [0.9, 0.5])
def test_top_p_is_dreams(top_p):
    recorded = arrays("samplers/select")
    logits = jnp.asarray(recorded["logits"]).reshape(-1, 12)
    kept = np.isfinite(keep_top_p(logits, top_p)).reshape(64, 16, 12)
    np.testing.assert_array_equal(kept, recorded[f"dream_topp_kept_{top_p}"])


FILTERS = {"": {}, "_topp0.9": {"top_p": 0.9}, "_topp0.5": {"top_p": 0.5}}
FILTERS |= {"_topk3": {"top_k": 3}, "_topp0.9_topk3": {"top_p": 0.9, "top_k": 3}}


@pytest.mark.parametrize("name", FILTERS)
def test_scores_of_what_is_drawn_from_are_dreams(name):
    """Top probability, margin and negative entropy after its filters, at temperature 0."""
    recorded = arrays("samplers/select")
    settings = {"temperature": 0.0, "top_p": 1.0, "top_k": None} | FILTERS[name]
    logits = draw_logits(jnp.asarray(recorded["logits"]).reshape(-1, 12), **settings)
    scores = {"maskgit_plus": confidence(logits), "topk_margin": margin(logits)}
    scores["entropy"] = -entropy(logits)
    for alg, got in scores.items():
        theirs = recorded[f"dream_{alg}{name}"]
        np.testing.assert_allclose(np.reshape(got, theirs.shape), theirs, atol=2e-6, err_msg=alg)


@pytest.mark.parametrize("top_k, kept", [(1, [1]), (2, [1, 3]), (3, [0, 1, 3]), (9, [0, 1, 2, 3])])
def test_top_k_keeps_the_most_probable(top_k, kept):
    got = keep_top_k(LOGITS, top_k)
    assert np.flatnonzero(np.isfinite(got[0])).tolist() == kept
    np.testing.assert_array_equal(got[0, jnp.array(kept)], LOGITS[0, jnp.array(kept)])


def test_filters_come_after_the_temperature_and_top_k_after_top_p():
    got = draw_logits(LOGITS, 2.0, 0.7, 1)
    assert got[0].tolist() == [-np.inf, float(LOGITS[0, 1] / 2), -np.inf, -np.inf]
    kept = np.isfinite(draw_logits(LOGITS, 2.0, 0.7, None))[0]  # 0.379, 0.293 and 0.207
    assert np.flatnonzero(kept).tolist() == [0, 1, 3]


def test_silenced_positions_come_last_in_every_score():
    """Also behind a position that knows next to nothing."""
    logits = jax.random.normal(jax.random.key(8), (60, 6)) * jnp.linspace(0.05, 9, 60)[:, None]
    proposal = jnp.argmax(logits, axis=-1)
    late = np.isin(proposal, [1, 4])
    got = demote_tokens(logits, proposal, (1, 4))
    assert 5 < late.sum() < 55
    for score in (confidence(got), margin(got), -entropy(got)):
        assert np.min(score[~late]) > np.max(score[late])
    np.testing.assert_array_equal(got[~late], mask_logits(logits, (1, 4))[~late])
    assert demote_tokens(logits, proposal, ()) is logits


def draws(temperature, top_p, seed, n=8000, top_k=None):
    logits = jnp.tile(LOGITS, (n, 1))
    drawn = propose(jax.random.key(seed), logits, temperature, top_p, top_k)
    return np.bincount(drawn, minlength=4)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_tempered_distribution(temperature):
    expected = PROBS ** (1 / temperature)
    counts = draws(temperature, 1.0, seed=0)
    assert stats.chisquare(counts, 8000 * expected / expected.sum()).pvalue > 1e-3


def test_draws_are_filtered_after_tempering():
    """At temperature 2 the top token has 0.379: 0.4 of the mass needs two tokens, and one at 1."""
    odds = np.sqrt(PROBS[[1, 3]])
    counts = draws(2.0, 0.4, seed=1)
    assert counts[[0, 2]].sum() == 0
    assert stats.chisquare(counts[[1, 3]], 8000 * odds / odds.sum()).pvalue > 1e-3
    assert draws(1.0, 0.4, seed=2).tolist() == [0, 8000, 0, 0]
    counts, odds = draws(1.0, 1.0, seed=9, top_k=2), PROBS[[1, 3]]
    assert counts[[0, 2]].sum() == 0
    assert stats.chisquare(counts[[1, 3]], 8000 * odds / odds.sum()).pvalue > 1e-3


def test_temperature_zero_is_argmax_whatever_the_key():
    logits = jax.random.normal(jax.random.key(3), (50, 6))
    for seed, top_p in [(4, 1.0), (5, 0.3)]:
        got = propose(jax.random.key(seed), logits, 0.0, top_p)
        np.testing.assert_array_equal(got, np.argmax(logits, axis=-1))
    cold = propose(jax.random.key(6), logits, 1e-4, 1.0)
    assert (np.asarray(cold) == np.argmax(logits, axis=-1)).mean() > 0.95


@pytest.mark.parametrize(("vocab", "name"), [(4, "categorical"), (1000, "gumbel")])
def test_the_noise_is_not_truncated(monkeypatch, vocab, name):
    """float32 uniforms end at 2^-24: without `mode="high"` rare tokens are never drawn."""
    modes, drawn = [], getattr(jax.random, name)

    def noted(*args, mode):
        modes.append(mode)
        return drawn(*args, mode=mode)

    monkeypatch.setattr(jax.random, name, noted)
    inspect.unwrap(propose)(jax.random.key(7), jnp.zeros((1, vocab)), 1.0, 1.0)
    assert modes == ["high"]


def test_a_large_vocabulary_is_drawn_from_by_group_and_token():
    """Of 500 ids, some of them ruled out, in 22 groups of 23 and one of 17."""
    logits = 2.0 * jax.random.normal(jax.random.key(10), (500,))
    logits = logits.at[jnp.array([0, 40, 499])].set(-jnp.inf).at[100:140].set(-jnp.inf)
    drawn = np.concatenate(
        [_propose(jax.random.key(seed), jnp.tile(logits, (5000, 1))) for seed in range(8)]
    )
    counts, expected = np.bincount(drawn, minlength=500), 40000 * np.asarray(jax.nn.softmax(logits))
    assert len(counts) == 500 and counts[expected == 0].sum() == 0
    likely = expected >= 5
    pooled = [np.append(x[likely], x[~likely].sum()) for x in (counts, expected)]
    assert likely.sum() > 200
    assert stats.chisquare(pooled[0], pooled[1] * pooled[0].sum() / pooled[1].sum()).pvalue > 1e-3


@jax.jit
def _propose(key, logits):
    return propose(key, logits, 1.0)


def test_a_position_draws_the_same_whichever_others_are_shown():
    """Also where the logits are worked on in parts, the last of which overlaps the one before."""
    logits = jax.random.normal(jax.random.key(11), (7, 40_000))
    assert LOGITS_AT_ONCE["cpu"] < 7 * 40_000
    whole = propose(jax.random.key(12), logits, 1.0, 0.9, 30_000)
    some = jnp.array([5, 2])
    part = propose(jax.random.key(12), logits[some], 1.0, 0.9, 30_000, some)
    assert part.tolist() == whole[some].tolist()
    assert len(set(whole.tolist())) > 3


def test_the_filters_are_those_of_a_sort():
    logits = 3.0 * jax.random.normal(jax.random.key(13), (20, 300)).at[:, 7].set(-jnp.inf)
    logits = jnp.round(logits, 1)  # with ties
    ordered = -np.sort(-np.asarray(logits), axis=1)
    kept = np.isfinite(keep_top_k(logits, 30))
    np.testing.assert_array_equal(kept, logits >= ordered[:, 29:30])
    probs = np.exp(ordered - ordered[:, :1])
    probs /= probs.sum(axis=1, keepdims=True)
    least = np.where(np.cumsum(probs, axis=1) - probs < 0.8, ordered, np.inf).min(1, keepdims=True)
    np.testing.assert_array_equal(np.isfinite(keep_top_p(logits, 0.8)), logits >= least)
