"""Fits: laws that are known are found again, and so is the published one; intervals cover."""

import csv

import numpy as np
import pytest
import scipy
from known_laws import MASKED, law_of, runs_of

from mdm_jax.errors import MdmError
from mdm_jax.laws import forms
from mdm_jax.laws.columns import chosen, completed
from mdm_jax.laws.fit import bootstrap, fit, interval, natural
from mdm_jax.laws.heldout import extrapolation, largest
from mdm_jax.laws.optimum import optimal, size_exponent

SIZES = {"parameters": (1e6, 1e9), "tokens": (1e8, 1e11)}
KNOWN = [
    (forms.LOSS, MASKED, SIZES),
    (forms.DOWNSTREAM, {"A": 40.0, "alpha": 0.25, "B": 300.0, "beta": 0.3}, SIZES),
    (forms.DOWNSTREAM_COMPUTE, {"A": 500.0, "alpha": 0.15}, {"flops": (1e15, 1e20)}),
    (
        forms.PASS_AT_K,
        {"A": 60.0, "alpha": -0.1, "beta": 0.3, "delta": -0.02},
        {"flops": (1e15, 1e20), "samples": (1, 256)},
    ),
    (
        forms.CALLS_KL,
        {"A": 3.0, "a": 1.2, "B": 0.8, "b": 0.9},
        {"calls": (1, 64), "excess": (1e-3, 1)},
    ),
    (forms.power_law("parameters", "flops"), {"k": 0.0176, "p": 0.566}, {"flops": (1e15, 1e20)}),
]


@pytest.mark.parametrize(
    ("form", "values", "ranges"), KNOWN, ids=lambda x: getattr(x, "formula", "")
)
def test_a_law_without_noise_is_found(form, values, ranges):
    law = fit(form, runs_of(law_of(form, values), 40, **ranges))
    assert law.values == pytest.approx(values, rel=1e-4)


def test_the_objective_is_a_sum_and_its_minimum_is_reached():
    truth = law_of(forms.LOSS, MASKED)
    runs = runs_of(truth, 60, noise=0.01, **SIZES)
    law = fit(forms.LOSS, runs)
    residuals = np.log(law.predict(runs)) - np.log(runs["loss"])
    assert law.objective == pytest.approx(scipy.special.huber(1e-3, residuals).sum())
    start = law.theta + np.random.default_rng(0).normal(0, 0.02, (8, 5)) * np.abs(law.theta)
    for theta in (truth.theta, *start):
        others = np.log(truth._replace(theta=theta).predict(runs)) - np.log(runs["loss"])
        assert law.objective < scipy.special.huber(1e-3, others).sum()


def test_units_change_coefficients_alone():
    truth = law_of(forms.LOSS, MASKED)
    runs = runs_of(truth, 60, noise=0.01, **SIZES)
    thousands = runs | {"parameters": runs["parameters"] / 1e3, "tokens": runs["tokens"] / 1e3}
    one, other = fit(forms.LOSS, runs).values, fit(forms.LOSS, thousands).values
    for name in ("E", "alpha", "beta"):
        assert one[name] == pytest.approx(other[name], rel=1e-4)


def test_nothing_irreducible_stays_positive():
    runs = runs_of(law_of(forms.LOSS, MASKED | {"E": 1e-9}), 40, **SIZES)
    law = fit(forms.LOSS, runs)
    assert 0 <= law.values["E"] < 0.01 and law.values["beta"] == pytest.approx(0.367, abs=0.003)


def test_intervals_cover():
    """Of 95 % intervals from 60 runs with 1 % noise, 90 to 99 % hold the exponents and E."""
    truth, held = law_of(forms.LOSS, MASKED), []
    for seed in range(40):
        runs = runs_of(truth, 60, seed, 0.01, **SIZES)
        law = fit(forms.LOSS, runs)
        draws = natural(forms.LOSS, bootstrap(law, runs, 64, seed))
        for name in ("E", "alpha", "beta"):
            low, high = interval(draws[name])
            held.append(low <= MASKED[name] <= high)
    assert 0.90 <= np.mean(held) <= 0.99


def test_the_optimum_is_that_of_the_surface():
    law = law_of(forms.LOSS, MASKED)
    flops = np.geomspace(1e15, 1e19, 5)
    best = optimal(law, flops)
    assert best.parameters * best.tokens * 6 == pytest.approx(flops)
    for factor in (0.97, 1.03):
        moved = {"parameters": best.parameters * factor, "tokens": best.tokens / factor}
        assert (law.predict(moved) > best.loss).all()
    slope = np.polyfit(np.log(flops), np.log(best.parameters), 1)[0]
    assert slope == pytest.approx(size_exponent(law.values))


def test_a_right_law_extrapolates_and_a_wrong_one_does_not():
    runs = completed(runs_of(law_of(forms.LOSS, MASKED), 60, **SIZES))
    which = largest(runs, 0.1)
    assert which.sum() == 6 and runs["flops"][which].min() > runs["flops"][~which].max()
    right = extrapolation(forms.LOSS, runs, which)
    assert right.mean_relative_error < 1e-5 and right.reach > 1
    wrong = extrapolation(forms.power_law("loss", "flops"), runs, which)
    assert wrong.mean_relative_error > 0.01
    with pytest.raises(MdmError, match="leaves none to fit"):
        largest(runs, 1.0)


def test_accuracies_are_rescaled_by_chance():
    runs = completed({"accuracy": np.array([0.5, 0.9]), "chance": np.array([0.25, 0.25])})
    assert runs["neg_log_accuracy"] == pytest.approx(-np.log([1 / 3, 13 / 15]))
    for accuracy, chance in ((1.0, 0.0), (0.27, 0.25)):
        with pytest.raises(MdmError, match="leave those runs out"):
            completed({"accuracy": np.array([accuracy]), "chance": np.array([chance])})


def test_flops_follow_from_size_and_tokens_and_back():
    runs = {"parameters": np.array([2.0]), "tokens": np.array([5.0])}
    assert completed(runs)["flops"] == 60
    assert completed({"parameters": np.array([2.0]), "flops": np.array([60.0])})["tokens"] == 5


def test_bad_columns_are_named():
    runs = runs_of(law_of(forms.LOSS, MASKED), 10, **SIZES)
    with pytest.raises(MdmError, match="have no loss; their columns are parameters, tokens"):
        fit(forms.LOSS, {k: v for k, v in runs.items() if k != "loss"})
    with pytest.raises(MdmError, match="loss must be positive, got nan in run 3"):
        fit(forms.LOSS, runs | {"loss": np.where(np.arange(10) == 2, np.nan, runs["loss"])})
    with pytest.raises(MdmError, match="5 runs are too few: give at least 6"):
        fit(forms.LOSS, chosen(runs, np.arange(10) < 5))


@pytest.mark.official_data
@pytest.mark.parametrize(
    ("dropped", "values", "objective"),
    [
        (5, {"E": 1.8172, "alpha": 0.3473, "beta": 0.3672}, 0.001018),
        (0, {"E": 1.8913, "alpha": 0.3493, "beta": 0.4530}, 0.001826),
    ],
)
def test_the_published_points_give_the_published_refit(official_data, dropped, values, objective):
    """arXiv:2404.10102: 245 runs of arXiv:2203.15556 as read off its figure."""
    with (official_data / "chinchilla" / "svg_extracted_data.csv").open() as file:
        rows = list(csv.DictReader(file))
    named = {"parameters": "Model Size", "flops": "Training FLOP", "loss": "loss"}
    runs = completed({ours: np.array([float(r[n]) for r in rows]) for ours, n in named.items()})
    kept = chosen(runs, np.argsort(np.argsort(runs["loss"])) < len(rows) - dropped)
    law = fit(forms.LOSS, kept)
    found = law.values
    assert found["E"] == pytest.approx(values["E"], abs=0.002)
    assert found["alpha"] == pytest.approx(values["alpha"], abs=0.003)
    assert found["beta"] == pytest.approx(values["beta"], abs=0.005)
    assert law.objective == pytest.approx(objective, abs=2e-6)
    if dropped:
        assert size_exponent(found) == pytest.approx(0.5139, abs=0.003)
