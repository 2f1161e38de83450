"""Closed forms, the published reference values, and posteriors computed in other ways."""

import numpy as np
import pytest
from scipy import special, stats

from mdm_jax.evals.intervals import (
    beta_interval,
    bivariate_normal_cdf,
    mcnemar_exact,
    mean_interval,
    paired_difference,
)

REFERENCE = [  # correct, total, interval
    (437, 1319, (0.3064, 0.3572)),
    (313, 1319, (0.2151, 0.2610)),
    (784, 1319, (0.5676, 0.6206)),
    (19, 20, (0.7618, 0.9883)),
    (20, 20, (0.8389, 0.9988)),
    (3, 10, (0.1093, 0.6097)),
]


@pytest.mark.parametrize(("correct", "total", "interval"), REFERENCE)
def test_reference_table(correct, total, interval):
    np.testing.assert_allclose(beta_interval(correct, total), interval, atol=6e-5)


def test_beta_interval_closed_forms():
    np.testing.assert_allclose(beta_interval(0, 0), (0.025, 0.975))  # the prior
    ends = 0.05 ** (1 / 8), 0.95 ** (1 / 8)  # all 7 right: density 8 theta^7
    np.testing.assert_allclose(beta_interval(7, 7, level=0.9), ends)
    np.testing.assert_allclose(beta_interval(np.int64(0), np.int64(7), level=0.9)[0], 1 - ends[1])


def test_the_mean_of_zeros_and_ones_is_beta():
    """Their Dirichlet weights add up to Beta(ones, zeros)."""
    values = np.array([1.0] * 7 + [0.0] * 3)
    expected = stats.beta.interval(0.9, 7, 3)
    np.testing.assert_allclose(mean_interval(values, level=0.9), expected, atol=0.02)
    np.testing.assert_allclose(mean_interval(np.full(5, 1.2)), (1.2, 1.2))


def test_beta_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    theta = rng.uniform(size=4000)  # calibrated by construction when theta comes from the prior
    ends = [beta_interval(k, 12, level=0.8) for k in range(13)]
    low, high = np.array(ends)[rng.binomial(12, theta)].T
    covered = np.mean((low < theta) & (theta < high))
    assert abs(covered - 0.8) < 4 * np.sqrt(0.16 / 4000)


def test_mcnemar_counts_tails_of_a_fair_coin():
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(5, 0) == mcnemar_exact(0, 5) == 2 / 2**5
    np.testing.assert_allclose(mcnemar_exact(8, 2), 2 * (1 + 10 + 45) / 2**10)


def test_bivariate_normal_cdf_against_integration():
    rng = np.random.default_rng(0)
    h, k, rho = 2 * rng.normal(size=8), 2 * rng.normal(size=8), rng.uniform(-1, 1, 8)
    want = [
        stats.multivariate_normal.cdf([x, y], cov=[[1, r], [r, 1]], abseps=1e-10, releps=1e-10)
        for x, y, r in zip(h, k, rho, strict=True)
    ]
    np.testing.assert_allclose(bivariate_normal_cdf(h, k, rho), want, atol=1e-8)


def test_bivariate_normal_cdf_on_the_axes():
    zero, rho = np.zeros(3), np.array([-0.9, 0.0, 0.999])
    sheppard = 0.25 + np.arcsin(rho) / (2 * np.pi)
    np.testing.assert_allclose(bivariate_normal_cdf(zero, zero, rho), sheppard, atol=1e-15)
    h = np.array([-1.0, 0.5, 2.0])
    got = bivariate_normal_cdf(h, zero, np.zeros(3))
    np.testing.assert_allclose(got, special.ndtr(h) / 2, atol=1e-15)


@pytest.mark.parametrize("counts", [(7, 2, 1, 0), (5, 0, 4, 11), (12, 3, 3, 2)])
def test_paired_equals_the_published_sampling_from_the_prior(counts):
    both, only_a, only_b, neither = counts
    rng = np.random.default_rng(1)
    a, b = rng.uniform(size=(2, 200_000))
    rho = 2 * rng.beta(4, 2, 200_000) - 1
    wrong = bivariate_normal_cdf(special.ndtri(1 - a), special.ndtri(1 - b), rho)
    weight = (a + b + wrong - 1) ** both * (1 - b - wrong) ** only_a
    weight *= (1 - a - wrong) ** only_b * wrong**neither
    got = paired_difference(*counts)
    assert abs(got.probability - np.average(a > b, weights=weight)) < 0.015
    assert abs(got.mean - np.average(a - b, weights=weight)) < 0.005
    for end, mass in zip(got.interval, (0.025, 0.975), strict=True):
        assert abs(np.average(a - b < end, weights=weight) - mass) < 0.006


@pytest.mark.parametrize("counts", [(300, 137, 82, 800), (430, 70, 40, 82), (40, 340, 300, 639)])
def test_paired_agrees_with_a_dirichlet_posterior_on_many_questions(counts):
    cells = np.random.default_rng(0).dirichlet(np.array(counts) + 1, 50_000)
    difference = cells[:, 1] - cells[:, 2]
    got = paired_difference(*counts)
    assert abs(got.mean - difference.mean()) < 1e-3
    np.testing.assert_allclose(got.interval, np.quantile(difference, [0.025, 0.975]), atol=2e-3)
    assert abs(got.probability - (difference > 0).mean()) < 0.01


@pytest.mark.parametrize(
    "counts",
    [(0, 0, 0, 0), (20, 0, 0, 0), (430, 7, 0, 882), (0, 0, 1319, 0), (2000, 800, 600, 6600)],
)
def test_paired_draws_stay_effective_and_mirror(counts):
    both, only_a, only_b, neither = counts
    got, mirrored = paired_difference(*counts), paired_difference(both, only_b, only_a, neither)
    assert got.effective_draws > 10_000
    assert abs(got.probability + mirrored.probability - 1) < 0.025
    scale = got.interval.high - got.interval.low
    np.testing.assert_allclose(got.interval, -np.array(mirrored.interval)[::-1], atol=0.05 * scale)


def test_paired_without_data_is_the_prior():
    got = paired_difference(0, 0, 0, 0, draws=60_000)
    np.testing.assert_allclose(got.interval, (np.sqrt(0.05) - 1, 1 - np.sqrt(0.05)), atol=0.02)


def test_pairing_narrows_the_interval_when_the_two_fail_together():
    paired = paired_difference(420, 30, 10, 540).interval
    a, b = stats.beta(1 + 450, 1 + 550), stats.beta(1 + 430, 1 + 570)  # were they independent
    unpaired = 2 * 1.96 * np.hypot(a.std(), b.std())
    assert paired.high - paired.low < 0.5 * unpaired


def test_seed_draws_and_level_matter():
    one = paired_difference(30, 9, 5, 20)
    assert one == paired_difference(30, 9, 5, 20, seed=0)
    assert one != paired_difference(30, 9, 5, 20, seed=1)
    assert paired_difference(30, 9, 5, 20, draws=1).effective_draws == 1
    narrow = paired_difference(30, 9, 5, 20, level=0.5).interval
    assert one.interval.low < narrow.low < narrow.high < one.interval.high


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: beta_interval(5, 4), "correct=5, total=4"),
        (lambda: beta_interval(-1, 4), "correct=-1"),
        (lambda: beta_interval(1, 4, level=1.0), "level=1.0"),
        (lambda: mcnemar_exact(-2, 1), "'only_a': -2"),
        (lambda: paired_difference(1, 1, 1, -1), "'neither': -1"),
        (lambda: paired_difference(1, 1, 1, 1, draws=0), "got 0"),
        (lambda: paired_difference(1, 1, 1, 1, level=0.0), "level=0.0"),
    ],
)
def test_impossible_counts_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
