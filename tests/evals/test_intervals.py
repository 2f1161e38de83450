"""Closed forms, the published reference values, and posteriors computed in other ways."""

import numpy as np
import pytest
from scipy import special, stats

from mdm_jax.evals.intervals import (
    beta_interval,
    bivariate_normal_cdf,
    clopper_pearson_interval,
    fisher_exact,
    mcnemar_exact,
    paired_difference,
    unpaired_difference,
    wilson_interval,
)

REFERENCE = [  # correct, total, Wilson, Clopper-Pearson, Beta(1, 1)
    (437, 1319, (0.3064, 0.3572), (0.3059, 0.3574), (0.3064, 0.3572)),
    (313, 1319, (0.2151, 0.2610), (0.2146, 0.2612), (0.2151, 0.2610)),
    (784, 1319, (0.5677, 0.6206), (0.5673, 0.6210), (0.5676, 0.6206)),
    (19, 20, (0.7639, 0.9911), (0.7513, 0.9987), (0.7618, 0.9883)),
    (20, 20, (0.8389, 1.0), (0.8316, 1.0), (0.8389, 0.9988)),
    (3, 10, (0.1078, 0.6032), (0.0667, 0.6525), (0.1093, 0.6097)),
]


@pytest.mark.parametrize(("correct", "total", "wilson", "exact", "beta"), REFERENCE)
def test_reference_table(correct, total, wilson, exact, beta):
    np.testing.assert_allclose(wilson_interval(correct, total), wilson, atol=6e-5)
    np.testing.assert_allclose(clopper_pearson_interval(correct, total), exact, atol=6e-5)
    np.testing.assert_allclose(beta_interval(correct, total), beta, atol=6e-5)


def test_beta_interval_closed_forms():
    np.testing.assert_allclose(beta_interval(0, 0), (0.025, 0.975))  # the prior
    ends = 0.05 ** (1 / 8), 0.95 ** (1 / 8)  # all 7 right: density 8 theta^7
    np.testing.assert_allclose(beta_interval(7, 7, level=0.9), ends)
    np.testing.assert_allclose(beta_interval(np.int64(0), np.int64(7), level=0.9)[0], 1 - ends[1])


def test_beta_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    theta = rng.uniform(size=4000)  # calibrated by construction when theta comes from the prior
    ends = [beta_interval(k, 12, level=0.8) for k in range(13)]
    low, high = np.array(ends)[rng.binomial(12, theta)].T
    covered = np.mean((low < theta) & (theta < high))
    assert abs(covered - 0.8) < 4 * np.sqrt(0.16 / 4000)


def test_clopper_pearson_covers_at_least_as_often_as_it_says():
    k, theta = np.arange(16), np.linspace(0.01, 0.99, 99)[:, None]
    low, high = np.array([clopper_pearson_interval(i, 15, level=0.9) for i in k]).T
    coverage = (stats.binom.pmf(k, 15, theta) * ((low <= theta) & (theta <= high))).sum(1)
    assert coverage.min() >= 0.9


def test_mcnemar_counts_tails_of_a_fair_coin():
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(5, 0) == mcnemar_exact(0, 5) == 2 / 2**5
    np.testing.assert_allclose(mcnemar_exact(8, 2), 2 * (1 + 10 + 45) / 2**10)


def test_fisher_on_the_lady_tasting_tea():
    test = fisher_exact(3, 4, 1, 4)
    np.testing.assert_allclose(test, (9.0, 2 * (1 + 16) / 70))
    assert fisher_exact(4, 4, 1, 4).odds_ratio == np.inf


def test_unpaired_reference_values():
    close = unpaired_difference(437, 1319, 382, 1319)
    assert abs(close.probability - 0.990) < 1e-3
    np.testing.assert_allclose(close.interval, (0.006, 0.077), atol=5e-4)
    far = unpaired_difference(437, 1319, 313, 1319)
    assert far.probability > 0.9999
    np.testing.assert_allclose(far.interval, (0.060, 0.128), atol=5e-4)


def test_unpaired_closed_forms():
    nothing = unpaired_difference(0, 0, 0, 0)  # difference of two uniforms: a triangle
    np.testing.assert_allclose(nothing.probability, 0.5)
    np.testing.assert_allclose(nothing.interval[1], 1 - np.sqrt(0.05), atol=1e-6)
    sure = unpaired_difference(3, 3, 0, 0)  # Beta(4, 1) against U(0, 1): P = E[theta_A] = 4/5
    np.testing.assert_allclose((sure.probability, sure.mean), (0.8, 0.3), atol=1e-6)
    swapped = unpaired_difference(0, 0, 3, 3)
    mirror = (-sure.interval.high, -sure.interval.low)
    np.testing.assert_allclose(swapped.interval, mirror, atol=2e-5)


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
    unpaired = unpaired_difference(450, 1000, 430, 1000).interval
    assert paired.high - paired.low < 0.5 * (unpaired.high - unpaired.low)


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
        (lambda: wilson_interval(0, 0), "total=0"),
        (lambda: clopper_pearson_interval(0, 0), "total=0"),
        (lambda: mcnemar_exact(-2, 1), "'only_a': -2"),
        (lambda: fisher_exact(1, 2, 3, 2), "correct=3, total=2"),
        (lambda: unpaired_difference(1, 2, 3, 2), "correct=3, total=2"),
        (lambda: paired_difference(1, 1, 1, -1), "'neither': -1"),
        (lambda: paired_difference(1, 1, 1, 1, draws=0), "got 0"),
        (lambda: paired_difference(1, 1, 1, 1, level=0.0), "level=0.0"),
    ],
)
def test_impossible_counts_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
