"""What is told of a law: its parameters with intervals, its errors, and what a figure shows."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from mdm_jax.errors import MdmError
from mdm_jax.laws import distillation, envelope, isoflop
from mdm_jax.laws.columns import Columns, chosen
from mdm_jax.laws.fit import DELTA, bootstrap, fit, interval, natural
from mdm_jax.laws.forms import LOSS, Form
from mdm_jax.laws.heldout import extrapolation, largest
from mdm_jax.laws.optimum import Growth, Optima, growth, optimal, size_exponent


class Estimate(NamedTuple):
    """A parameter with its interval; NaN where there is none."""

    name: str
    value: float
    low: float = np.nan
    high: float = np.nan


class Report(NamedTuple):
    """A fitted law.

    Attributes:
      formula: as it is printed.
      estimates: of its parameters, from all runs.
      x, target: columns of the figure's axes.
      at, measured, predicted: of the points; those held out are predicted by a law of the others.
      heldout: which points those are.
      reach: largest x held out over the largest one fitted.
      curve: (x, y) of the compute-optimal law, where it is one.
    """

    formula: str
    estimates: list[Estimate]
    x: str
    target: str
    at: Float[np.ndarray, " points"]
    measured: Float[np.ndarray, " points"]
    predicted: Float[np.ndarray, " points"]
    heldout: Bool[np.ndarray, " points"]
    reach: float
    curve: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def errors(self) -> dict[str, float]:
        """Mean relative errors: of the points fitted, and of those held out."""
        relative = np.abs(self.predicted / self.measured - 1)
        return {
            "fitted": float(relative[~self.heldout].mean()),
            "held out": float(relative[self.heldout].mean()),
        }


class Settings(NamedTuple):
    """How laws are fitted.

    Attributes:
      share: of the runs that are held out, the largest ones.
      delta: of the Huber loss.
      draws: of the bootstrap.
      level: of the intervals.
      seed: of the draws.
    """

    share: float = 0.1
    delta: float = DELTA
    draws: int = 1000
    level: float = 0.95
    seed: int = 0


def surface(form: Form, columns: Columns, settings: Settings) -> Report:
    """A sum of powers; of a loss also the growth of the compute-optimal size.

    Raises:
      MdmError: columns are missing or bad, or there are too few runs to hold some out.
    """
    law = fit(form, columns, settings.delta)
    drawn = bootstrap(law, columns, settings.draws, settings.seed, settings.delta)
    draws, values = natural(form, drawn), law.values
    if form == LOSS:
        values["N exponent"] = size_exponent(values)
        draws["N exponent"] = size_exponent(draws)
    found = [Estimate(n, v, *interval(draws[n], settings.level)) for n, v in values.items()]
    x = "flops" if "flops" in columns else form.variables[0]
    kept_out = largest(columns, settings.share, x)
    beyond = extrapolation(form, columns, kept_out, x, settings.delta)
    curve = None
    if form == LOSS:
        grid = np.geomspace(columns["flops"].min(), columns["flops"].max(), 50)
        curve = grid, optimal(law, grid).loss
    points = columns[x], columns[form.target], beyond.law.predict(columns)
    return Report(form.formula, found, x, form.target, *points, kept_out, beyond.reach, curve)


def isoflop_frontier(columns: Columns, settings: Settings, skip_edges: bool = False) -> Report:
    """Approach 2: power laws of the minima of each budget's parabola.

    Raises:
      MdmError: see `isoflop.isoflop_budgets`.
    """
    found = isoflop.isoflop_budgets(columns, skip_edges=skip_edges)
    drawn = isoflop.optima(found, settings.draws, settings.seed)
    return _frontier(
        "isoFLOP minima", isoflop.optima(found), lambda name: _growths(drawn, name), settings
    )


def envelope_frontier(columns: Columns, settings: Settings) -> Report:
    """Approach 1: power laws of the lowest of all training curves.

    Raises:
      MdmError: see `envelope.envelope`.
    """
    drawn = _resampled_envelopes(columns, settings)

    def growths(name: str) -> Growth:
        return np.concatenate([_growths(each, name) for each in drawn])

    return _frontier("envelope of the curves", envelope.envelope(columns), growths, settings)


def _growths(optima: Optima, name: str) -> Growth:
    grown = growth(optima.flops, getattr(optima, name))
    return grown[np.isfinite(grown).all(axis=1)]


def _resampled_envelopes(columns: Columns, settings: Settings) -> list[Optima]:
    """Envelopes of runs drawn with replacement; a draw without two inner sizes has none."""
    rng, found = np.random.default_rng(settings.seed), []
    runs = np.unique(columns["run"]) if "run" in columns else np.zeros(0)
    for _ in range(settings.draws if len(runs) else 0):
        some = np.isin(columns["run"], rng.choice(runs, len(runs)))
        try:
            found.append(envelope.envelope(chosen(columns, some)))
        except MdmError:
            continue
    return found


def _frontier(
    title: str, optima: Optima, growths: Callable[[str], Growth], settings: Settings
) -> Report:
    """Power laws in the budget of the best size, tokens and loss."""
    estimates = []
    for name, letter in (("parameters", "N"), ("tokens", "D"), ("loss", "L")):
        log_k, power = growth(optima.flops, getattr(optima, name))[0]
        drawn = growths(name)
        ends = [(np.nan, np.nan)] * 2
        if len(drawn):
            ends = [interval(each, settings.level) for each in (np.exp(drawn[:, 0]), drawn[:, 1])]
        estimates.append(Estimate(f"{letter} coefficient", float(np.exp(log_k)), *ends[0]))
        estimates.append(Estimate(f"{letter} exponent", float(power), *ends[1]))
    flops, sizes = optima.flops[0], optima.parameters[0]
    kept_out = largest({"flops": flops}, settings.share)
    if (~kept_out).sum() < 2:
        raise MdmError(f"{len(flops)} budgets are too few to hold out the largest: give at least 3")
    log_k, power = growth(flops[None, ~kept_out], sizes[None, ~kept_out])[0]
    predicted = np.exp(log_k + power * np.log(flops))
    reach = float(flops[kept_out].max() / flops[~kept_out].max())
    formula = f"{title}: N, D and L = coefficient x C^exponent"
    points = flops, sizes, predicted, kept_out
    return Report(formula, estimates, "flops", "parameters", *points, reach, (flops, predicted))


def distilled(columns: Columns, settings: Settings) -> Report:
    """The distillation law; its parameters trade against each other and have no intervals.

    Raises:
      MdmError: see `distillation.fit_distillation`.
    """
    law, _ = distillation.fit_distillation(columns, settings.delta, seed=settings.seed)
    kept_out = largest(columns, settings.share)
    others, _ = distillation.fit_distillation(
        chosen(columns, ~kept_out), settings.delta, seed=settings.seed
    )
    reach = float(columns["flops"][kept_out].max() / columns["flops"][~kept_out].max())
    points = columns["flops"], columns["loss"], others.predict(columns), kept_out
    estimates = [Estimate(name, value) for name, value in law._asdict().items()]
    return Report(distillation.FORMULA, estimates, "flops", "loss", *points, reach)
