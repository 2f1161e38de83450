"""What each form of the posterior draws, reports and contributes, against every set of reveals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from order_world import (
    ALL,
    BITS,
    FORMS,
    LENGTH,
    NONE,
    posterior_chances,
    set_prob,
    subsets,
)
from scipy import stats

from mdm_jax.orders.variational.forms.base import Form

PRIORITIES = np.array([0.3, -0.4, 0.9, 0.1])
UTILITIES = np.array([-0.5, 0.7, 0.2, -1.1])
MASKS = {  # what is still masked
    "all": ALL,
    "three": np.array([True, True, False, True]),  # without the first in line
    "pair": np.array([False, True, False, True]),
    "one": np.array([False, True, False, False]),
    "none": NONE,
}
LEFT = (2, 3, 5)  # steps
COUNT = 2000


@partial(jax.jit, static_argnames="form")
@partial(jax.vmap, in_axes=(None, 0, 0, 0, 0, 0))
def run(form, key, priorities, utilities, is_masked, left):
    """A draw with its log-probability, the terms, and the gradient of the sum of all of it."""

    def total(priorities, utilities):
        reveal, log_prob = form.draw(key, priorities, is_masked, left)
        terms = form.terms(priorities, utilities, is_masked, left)
        return log_prob + sum(map(jnp.sum, terms)), (reveal, log_prob, terms)

    gradient, found = jax.grad(total, argnums=(0, 1), has_aux=True)(priorities, utilities)
    return *found, gradient


def run_all(kind, rows):
    """`run` on rows of (priorities, utilities, is_masked, left), as NumPy arrays."""
    keys = jax.random.split(jax.random.key(0), len(rows))
    columns = [np.stack(column) for column in zip(*rows, strict=True)]
    kinds = (np.float32, np.float32, bool, np.int32)
    arrays = [jnp.asarray(c, kind) for c, kind in zip(columns, kinds, strict=True)]
    return jax.tree.map(np.asarray, run(FORMS[kind], keys, *arrays))


@pytest.fixture(scope="module")
def ordinary():
    """{form: {(mask, left): what `run` says of COUNT draws}}."""
    cases = [(name, left) for name in MASKS for left in LEFT]
    rows = [(PRIORITIES, UTILITIES, MASKS[n], left) for n, left in cases for _ in range(COUNT)]
    found = {}
    for kind in FORMS:
        with jax.debug_key_reuse(True):  # as in the tests, so that one program serves both
            parts = run_all(kind, rows)
        cut = [slice(i * COUNT, (i + 1) * COUNT) for i in range(len(cases))]
        found[kind] = {
            c: jax.tree.map(lambda x, s=s: x[s], parts) for c, s in zip(cases, cut, strict=True)
        }
    return found


def sets_of(kind, mask, left):
    """Every set of reveals with its probability under posterior and policy."""
    if not mask.any():
        return [(mask, 1.0, 1.0)]
    odds = np.where(mask, np.exp(UTILITIES), 0.0)
    policy = odds / odds.sum() if kind == "one" else 1 / (1 + np.exp(-UTILITIES))
    bernoulli = posterior_chances(kind, PRIORITIES, mask, left)
    return [(r, *(set_prob(kind, c, mask, r) for c in (bernoulli, policy))) for r in subsets(mask)]


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("kind", FORMS)
def test_draws_follow_the_probabilities_that_they_report(ordinary, kind, name, left):
    reveal, log_prob, terms, _ = ordinary[kind][name, left]
    expected = {r @ BITS: q for r, q, _ in sets_of(kind, MASKS[name], left) if q > 0}
    codes, counts = np.unique(reveal @ BITS, return_counts=True)
    assert set(codes) <= set(expected)
    np.testing.assert_allclose(
        log_prob, np.log([expected[c] for c in reveal @ BITS]), atol=2e-6, rtol=1e-5
    )
    seen = dict(zip(codes, counts, strict=True))
    if len(expected) > 1:
        often = {c: q for c, q in expected.items() if q * COUNT > 5}
        observed = [seen.get(c, 0) for c in often]
        rest = COUNT - sum(observed), COUNT * (1 - sum(often.values()))
        pairs = [*zip(observed, (COUNT * q for q in often.values()), strict=True)]
        pairs += [rest] if rest[1] > 5 else []
        observed, mean = np.array(pairs).T
        assert stats.chisquare(observed, mean * observed.sum() / mean.sum()).pvalue > 1e-3
    q = terms.reveal[0].astype(float)
    error = np.sqrt(q * (1 - q) / COUNT)
    assert (np.abs(reveal.mean(axis=0) - q) <= 4.5 * error + 1e-7).all()


@pytest.mark.parametrize("kind", FORMS)
def test_probabilities_of_all_sets_sum_to_one(ordinary, kind):
    for name in ("three", "pair", "one", "none"):
        reveal, log_prob, _, _ = ordinary[kind][name, 2]
        _, first = np.unique(reveal @ BITS, return_index=True)
        np.testing.assert_allclose(np.exp(log_prob[first].astype(float)).sum(), 1.0, rtol=1e-5)


@pytest.mark.parametrize("kind, least, most", [("max", 1, 4), ("sigmoid", 0, 4), ("one", 1, 1)])
def test_how_many_are_revealed_at_once(ordinary, kind, least, most):
    for (name, _), (reveal, *_) in ordinary[kind].items():
        mask = MASKS[name]
        assert not reveal[:, ~mask].any()
        if mask.any():
            sizes = reveal.sum(axis=1)
            assert sizes.min() == least and sizes.max() == min(most, mask.sum())


@pytest.mark.parametrize("kind", FORMS)
def test_terms_are_the_next_reveal_integrated_out(ordinary, kind):
    for (name, left), (_, _, terms, _) in ordinary[kind].items():
        mask, now = MASKS[name], jax.tree.map(lambda x: x[0], terms)
        assert all((x[~mask] == 0).all() for x in now)
        sets = [(r, q, p) for r, q, p in sets_of(kind, mask, left) if q > 0]
        np.testing.assert_allclose(now.reveal, sum(q * r for r, q, _ in sets), atol=1e-6)
        kl = sum(q * np.log(q / p) for _, q, p in sets)
        np.testing.assert_allclose(now.kl.sum(), kl, rtol=1e-5, atol=1e-6)
        entropy = -sum(q * np.log(q) for _, q, _ in sets)
        np.testing.assert_allclose(now.entropy.sum(), entropy, rtol=1e-5, atol=1e-6)


def extremes():
    """Ties and near ties, from 1e-9 to 1e3 apart, with policies as sure as they come."""
    rng, rows = np.random.default_rng(1), []
    for gap in (0.0, 1e-9, 1e-7, 1e-5, 1e-3, 0.1, 1.0, 10.0, 100.0, 1e3):
        for priorities in (gap * np.arange(LENGTH), gap * rng.permutation(4), gap * np.eye(4)[1]):
            for base in (0.0, -50.0):
                utilities = rng.choice([-1e3, -30.0, 0.0, 30.0, 1e3], LENGTH)
                rows += [
                    (base + priorities, utilities, mask, left)
                    for mask in MASKS.values()
                    for left in (2, 10)
                ]
    return rows


@pytest.mark.parametrize("kind", FORMS)
def test_nothing_is_ever_infinite_or_undefined(kind):
    rows = extremes()
    rows = [rows[i] for i in np.resize(np.arange(len(rows)), COUNT * len(MASKS) * len(LEFT))]
    reveal, log_prob, terms, gradient = run_all(kind, rows)
    for leaf in jax.tree.leaves((log_prob, terms, gradient)):
        assert np.isfinite(leaf).all()
    assert (log_prob <= 0).all() and (terms.reveal <= 1).all()
    assert all((x >= -1e-6).all() for x in (terms.reveal, terms.entropy))
    mask = np.stack([row[2] for row in rows])
    assert (reveal & mask == reveal).all()
    if kind != "sigmoid":
        assert (reveal.any(axis=1) == mask.any(axis=1)).all()


def test_gradients_next_to_a_tie_are_exact():
    """Of sum(reveal) + KL + entropy + log q(draw), from log(1 - exp(-gap)) in double precision."""
    gaps = np.array([1e-5, 1e-3, 0.1, 1.0, 5.0, 20.0])
    pair = np.array([True, True, False, False])
    rows = [(np.array([0.0, -gap, 0, 0]), UTILITIES, pair, 3) for gap in gaps]
    rows = [rows[i] for i in np.resize(np.arange(6), COUNT * len(MASKS) * len(LEFT))]
    reveal, _, _, (along, _) = run_all("max", rows)
    log_q = np.float32([row[0][1] for row in rows]).astype(float)
    log_off = np.log(-np.expm1(log_q))
    q, p = np.exp(log_q), 1 / (1 + np.exp(-UTILITIES[1]))
    kl = q * (log_q - np.log(p) - log_off + np.log(1 - p))
    entropy = -q * (log_q - log_off)
    draw = np.where(reveal[:, 1], 1.0, q / np.expm1(log_q))
    np.testing.assert_allclose(along[:, 1], q + kl + entropy + draw, rtol=3e-3, atol=1e-5)
    np.testing.assert_allclose(along[:, 0], -along[:, 1], rtol=1e-5)


def test_forms_meet_the_contract():
    assert all(isinstance(form, Form) for form in FORMS.values())
