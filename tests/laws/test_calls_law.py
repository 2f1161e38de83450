"""The law of denoiser calls and excess loss, on a Markov chain where both and the KL are exact."""

import numpy as np
import pytest
from chain_profile import exact_runs

from mdm_jax.laws.columns import chosen
from mdm_jax.laws.fit import fit
from mdm_jax.laws.forms import CALLS_KL
from mdm_jax.laws.heldout import extrapolation, largest

ERRORS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


@pytest.fixture(scope="module")
def runs():
    return exact_runs(ERRORS, (1, 2, 3, 4, 5, 6, 8, 16, 31))


def test_one_call_for_each_position_loses_what_the_denoiser_does(runs):
    sequential = chosen(runs, runs["calls"] == 31)
    assert sequential["kl"] == pytest.approx(sequential["excess"])


def test_the_law_holds_up_to_a_quarter_of_the_length(runs):
    few = chosen(runs, runs["calls"] <= 8)
    law = fit(CALLS_KL, few)
    assert np.abs(law.predict(few) / few["kl"] - 1).mean() < 0.03
    assert law.values["b"] == pytest.approx(1, abs=0.06)  # nats add up
    assert law.values["B"] == pytest.approx(1, abs=0.15)


def test_it_extrapolates_in_calls_and_in_the_denoiser(runs):
    few = chosen(runs, runs["calls"] <= 8)
    for by, smallest in (("calls", False), ("excess", True)):
        found = extrapolation(CALLS_KL, few, largest(few, 0.14, by, smallest), by)
        assert found.mean_relative_error < 0.05


def test_it_ends_where_calls_approach_the_positions(runs):
    """The loss of exact conditionals ends at 0 with one call a position, a power never does."""
    found = extrapolation(CALLS_KL, runs, runs["calls"] > 8, "calls")
    assert found.relative.mean() > 0.2
