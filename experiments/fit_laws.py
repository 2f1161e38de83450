"""Fit a scaling law to runs: parameters with intervals, and how wrong it is about the largest runs.

  python -m experiments.fit_laws --runs runs.csv
  python -m experiments.fit_laws --runs runs/sweep/* --approach isoflop

Reads a CSV or JSON-lines file, a run a line, or run directories of train_denoiser. Writes table.json and
law.png. Where there are no FLOPs they are C = 6 N D. N of run directories leaves embeddings out, and
their FLOPs count attention: 6 N + 12 depth width length for each token.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from experiments import _cli as cli
from experiments._cli.console import print_once, print_table
from mdm_jax.errors import MdmError, check_range, check_seed
from mdm_jax.evals import plots
from mdm_jax.external_files import expand
from mdm_jax.laws import forms
from mdm_jax.laws.columns import CONVENTION, Columns, chosen, completed
from mdm_jax.laws.report import (
    Estimate,
    Report,
    Settings,
    distilled,
    envelope_frontier,
    isoflop_frontier,
    surface,
)
from mdm_jax.runs.description import describe
from mdm_jax.runs.json_files import write_json
from mdm_jax.runs.lock import only_writer
from mdm_jax.runs.scaling import ColumnNames, read_runs

LawName = Literal[
    "loss", "downstream", "downstream-compute", "pass-at-k", "calls", "calls-kl", "distillation"
]
Fit = Callable[[Columns, Settings], Report]
TABLE, FIGURE = "table.json", "law.png"
POINTS = ("at", "measured", "predicted", "heldout")
FITS: dict[str, Fit] = {
    "loss": partial(surface, forms.LOSS),
    "downstream": partial(surface, forms.DOWNSTREAM),
    "downstream-compute": partial(surface, forms.DOWNSTREAM_COMPUTE),
    "pass-at-k": partial(surface, forms.PASS_AT_K),
    "calls": partial(surface, forms.CALLS),
    "calls-kl": partial(surface, forms.CALLS_KL),
    "distillation": distilled,
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a fit.

    Attributes:
      runs: a CSV or JSON-lines file, or run directories of train_denoiser.
      law: what is fitted. loss: E + A / N^alpha + B / D^beta. downstream: -log accuracy = A / N^alpha +
        B / D^beta; downstream-compute: A / C^alpha; pass-at-k: with k generations. calls and calls-kl:
        A / calls^a + B excess^b, of -log accuracy and of KL. distillation: a student's loss.
      approach: to the compute-optimal size, of `--law loss`: the surface itself, the minima of
        parabolas at equal FLOPs, or the envelope of training curves.
      names: of the columns in a file.
      drop_highest: runs to leave out, those with the highest losses.
      skip_edges: of isoflop: leave out budgets whose best size is at the edge, instead of refusing them.
      heldout: share of the runs, the largest ones, that an extrapolation is tested on.
      delta: of the Huber loss of log residuals.
      draws: of the bootstrap.
      level: of the intervals.
      seed: of the draws.
      out_dir: where table.json and law.png are written.
    """

    runs: tuple[str, ...] = cli.REQUIRED
    law: LawName = "loss"
    approach: Literal["surface", "isoflop", "envelope"] = "surface"
    names: ColumnNames = field(default_factory=ColumnNames)
    drop_highest: int = 0
    skip_edges: bool = False
    heldout: float = 0.1
    delta: float = 1e-3
    draws: int = 1000
    level: float = 0.95
    seed: int = 0
    out_dir: str = "runs/fit_laws"

    def __post_init__(self) -> None:
        check_range("drop_highest", self.drop_highest, 0)
        check_range("heldout", self.heldout, above=0, below=1)
        check_range("delta", self.delta, above=0)
        check_range("draws", self.draws, 20)
        check_range("level", self.level, above=0, below=1)
        check_seed(self.seed)
        if self.approach != "surface" and self.law != "loss":
            raise MdmError(f"--approach {self.approach} is for --law loss, not {self.law}")


def run(config: Config) -> Report:
    """Read, fit, print, draw."""
    curves = config.approach == "envelope"
    columns = completed(read_runs(config.runs, asdict(config.names), curves))
    columns = without_highest(columns, config.drop_highest)
    settings = Settings(config.heldout, config.delta, config.draws, config.level, config.seed)
    report = fit_of(config)(columns, settings)
    show(report, config)
    home = expand(config.out_dir)
    with only_writer(home):
        write(report, config, home)
    print_once(f"table: {home / TABLE}; figure: {home / FIGURE}")
    return report


def fit_of(config: Config) -> Fit:
    """The fit that the settings ask for."""
    if config.approach == "isoflop":
        return partial(isoflop_frontier, skip_edges=config.skip_edges)
    return envelope_frontier if config.approach == "envelope" else FITS[config.law]


def without_highest(columns: Columns, count: int) -> Columns:
    """The runs but those with the highest losses, such as outliers of early training.

    Raises:
      MdmError: there are no losses, or not so many runs.
    """
    if not count:
        return columns
    if "loss" not in columns or count >= len(columns["loss"]):
        raise MdmError(f"--drop_highest {count} needs a column loss and more runs than that")
    return chosen(columns, columns["loss"] < np.sort(columns["loss"])[-count])


def show(report: Report, config: Config) -> None:
    """The parameters with their intervals, and the errors."""
    level = f"{100 * config.level:g} %"
    cells = [
        (each.name, *(number(x) for x in (each.value, each.low, each.high)))
        for each in report.estimates
    ]
    columns = ("parameter", "value", f"{level} from", f"{level} to")
    print_table(report.formula, columns, cells)
    errors, heldout = report.errors, int(report.heldout.sum())
    print_once(
        f"{len(report.at)} points; a law of the {len(report.at) - heldout} smaller ones is wrong by "
        f"{errors['fitted']:.2%} about them and by {errors['held out']:.2%} about the {heldout} held "
        f"out, up to {report.reach:.3g} times their {report.x} (mean relative errors)"
    )


def number(value: float) -> str:
    """Four significant digits, and a dash where there is no number."""
    return f"{value:.4g}" if np.isfinite(value) else "-"


def write(report: Report, config: Config, home: Path) -> None:
    """table.json: the law, its settings and every point; law.png."""
    points = {name: getattr(report, name).tolist() for name in POINTS}
    found = {
        "formula": report.formula,
        "flops": CONVENTION,
        "settings": describe(config),
        "estimates": [written(each) for each in report.estimates],
        "mean_relative_errors": report.errors,
        "reach": report.reach,
        "points": {"x": report.x, "target": report.target, **points},
    }
    write_json(home / TABLE, found)
    plots.save(plots.law_figure(report), home / FIGURE)


def written(estimate: Estimate) -> dict[str, str | float | None]:
    """An estimate for JSON, which has no NaN: None where there is no interval."""
    ends = ((end, getattr(estimate, end)) for end in ("low", "high"))
    return estimate._asdict() | {end: x if np.isfinite(x) else None for end, x in ends}


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
