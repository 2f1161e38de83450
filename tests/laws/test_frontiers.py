"""Approaches 1 and 2: minima of parabolas and the envelope of curves, of a law that is known."""

import numpy as np
import pytest
from known_laws import MASKED, law_of

from mdm_jax.errors import MdmError
from mdm_jax.laws import forms
from mdm_jax.laws.envelope import envelope
from mdm_jax.laws.isoflop import Budget, isoflop_budgets, optima, same_budget
from mdm_jax.laws.optimum import growth, optimal, size_exponent
from mdm_jax.laws.report import Settings, envelope_frontier, isoflop_frontier

LAW = law_of(forms.LOSS, MASKED)
BUDGETS = np.geomspace(1e18, 1e20, 5)
EXPONENT = size_exponent(MASKED)


def sweep(factors, noise=0.0, seed=0):
    """Runs at each budget, sizes at multiples of the best; FLOPs are parameters x tokens."""
    best = optimal(LAW, BUDGETS, 1.0).parameters
    sizes = (best[:, None] * factors).ravel()
    flops = np.repeat(BUDGETS, len(factors))
    columns = {"parameters": sizes, "flops": flops, "tokens": flops / sizes}
    noisy = np.exp(noise * np.random.default_rng(seed).standard_normal(len(sizes)))
    return columns | {"loss": LAW.predict(columns) * noisy}


def test_a_parabola_is_biased_by_two_per_cent_in_size_and_hardly_in_the_exponent():
    found = optima(isoflop_budgets(sweep(np.geomspace(1 / 4, 4, 5))))
    exact = optimal(LAW, BUDGETS, 1.0)
    ratio = found.parameters[0] / exact.parameters
    assert ratio == pytest.approx(0.98, abs=0.003)
    log_k, power = growth(found.flops, found.parameters)[0]
    assert abs(power - EXPONENT) < 0.0015
    assert np.exp(log_k) * 1e19**power == pytest.approx(9.99e8, rel=0.003)
    assert found.loss[0] == pytest.approx(exact.loss, rel=2e-3)
    assert found.parameters * found.tokens == pytest.approx(found.flops)


def test_intervals_of_the_exponent_cover_with_noise():
    held = []
    for seed in range(60):
        runs = sweep(np.geomspace(1 / 8, 8, 7), 0.003, seed)
        drawn = optima(isoflop_budgets(runs), 200, seed)
        powers = growth(drawn.flops, drawn.parameters)[:, 1]
        low, high = np.nanquantile(powers, [0.025, 0.975])
        held.append(low <= EXPONENT <= high)
    assert 0.90 <= np.mean(held) <= 0.99


def test_minima_at_an_edge_are_refused_or_left_out():
    runs = sweep(np.geomspace(1 / 4, 4, 5))
    cut = {k: v[(runs["flops"] > 1.1e18) | (np.arange(25) > 2)] for k, v in runs.items()}
    with pytest.raises(MdmError, match=r"needs three"):
        isoflop_budgets(cut)
    cut = {k: v[(runs["flops"] > 1.1e18) | (np.arange(25) > 1)] for k, v in runs.items()}
    with pytest.raises(MdmError, match=r"1e\+18 FLOPs is at the edge of the sizes: add smaller"):
        isoflop_budgets(cut)
    assert len(isoflop_budgets(cut, skip_edges=True)) == 4
    worst = sweep(np.geomspace(2, 8, 4))
    with pytest.raises(MdmError, match="0 budgets have a minimum inside"):
        isoflop_budgets(worst, skip_edges=True)


def test_a_parabola_that_is_all_but_a_line_has_no_minimum():
    sizes = np.log([1e3, 2e3, 4e3, 8e3])
    line = Budget(sizes, 2.0 - 0.01 * sizes + 1e-7 * sizes**2, 1e12, 1e11)
    found = optima([line, line._replace(losses=(sizes - sizes.mean()) ** 2)])
    assert np.isnan(found.parameters[0, 0]) and np.isnan(found.tokens[0, 0])
    np.testing.assert_allclose(found.parameters[0, 1], np.exp(sizes.mean()))


def test_runs_share_a_budget_up_to_a_few_per_cent():
    flops = np.array([9.8e18, 1e20, 1e19, 1.02e19, 1.03e20])
    assert [sorted(each) for each in same_budget(flops)] == [[0, 2, 3], [1, 4]]


def curves():
    """Nine sizes, each trained to forty times as many tokens as its first point."""
    sizes, points = np.geomspace(1e8, 1e10, 9), np.geomspace(1, 400, 60)
    best = optimal(LAW, BUDGETS, 1.0)
    tokens = np.interp(np.log(sizes), np.log(best.parameters), np.log(best.tokens))
    parameters = np.repeat(sizes, 60)
    seen = (np.exp(tokens)[:, None] * points / 20).ravel()
    columns = {"parameters": parameters, "tokens": seen, "flops": parameters * seen}
    return columns | {"run": np.repeat(np.arange(9.0), 60), "loss": LAW.predict(columns)}


def test_the_envelope_finds_the_exponent():
    found = envelope(curves())
    power = growth(found.flops, found.parameters)[0, 1]
    assert power == pytest.approx(EXPONENT, abs=0.03)
    assert found.parameters * found.tokens == pytest.approx(found.flops)
    assert found.loss[0] == pytest.approx(optimal(LAW, found.flops[0], 1.0).loss, rel=0.01)
    with pytest.raises(MdmError, match="at least 3 runs"):
        envelope({k: v for k, v in curves().items() if k != "run"})


@pytest.mark.parametrize("frontier", [isoflop_frontier, envelope_frontier])
def test_frontiers_are_told_with_intervals_and_held_out_budgets(frontier):
    runs = sweep(np.geomspace(1 / 8, 8, 7), 0.001) if frontier is isoflop_frontier else curves()
    report = frontier(runs, Settings(draws=30))
    estimates = {each.name: each for each in report.estimates}
    power = estimates["N exponent"]
    assert power.low <= power.value <= power.high
    assert power.value == pytest.approx(EXPONENT, abs=0.04)
    assert power.value + estimates["D exponent"].value == pytest.approx(1)
    assert report.heldout.sum() >= 1 and report.reach > 1 and report.errors["held out"] < 0.3
