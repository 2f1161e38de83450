"""What sweeps and searches of learning rates share: a training, and what sweeps print and keep."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments import train_denoiser
from experiments._cli.console import print_once, print_table
from mdm_jax.evals import plots
from mdm_jax.external_files import expand
from mdm_jax.laws.rate_sweep import RateSweep
from mdm_jax.runs.json_files import write_json
from mdm_jax.training.loop import TrainingStopped


def loss_at(train: train_denoiser.Config, directory: Path) -> float:
    """Nats per held-out token after a training, made or finished in `directory`; inf: diverged."""
    try:
        trained = train_denoiser.train(replace(train, run_dir=str(directory)))
    except TrainingStopped as stopped:
        print_once(f"{directory.name}: {stopped}")
        return math.inf
    return trained.likelihood.nelbo_per_token


def report_sweeps(sweeps: Sequence[RateSweep], run_dir: str) -> None:
    """Print the losses and the verdict, keep them in table.json, draw rates.png."""
    directory = expand(run_dir)
    cells = [
        (sweep.rule, sweep.axis, str(size), *(f"{loss:.3f}" for loss in losses))
        for sweep in sweeps
        for size, losses in sweep.losses.items()
    ]
    columns = ("rule", "axis", "size", *(f"{rate:g}" for rate in sweeps[0].rates))
    print_table("held-out bound by learning rate, nats per token", columns, cells, texts=2)
    rows = [sweep._asdict() | {"moved": sweep.moved} for sweep in sweeps]
    write_json(directory / "table.json", rows)
    plots.save(plots.rate_sweep_figure(sweeps), directory / "rates.png")
    print_once("\n".join(sweep.verdict() for sweep in sweeps))
    print_once(f"figure: {directory / 'rates.png'}")
