"""Search a learning rate for each kind of module on a small network, and carry them over to wider ones.

  python -m experiments.transfer_search --trials 24 --widths 256

Random search in a trust region around --train, in logarithms. Then the settings found, and those of
--train, are trained on with another seed, at the base's width and, by --scaling completed-p, at --widths.
The same command resumes; finished runs are not trained again. Prints the flags of what was found, and
writes table.json.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np

from experiments import _cli as cli
from experiments import train_denoiser
from experiments._cli.console import print_once, print_table, progress
from experiments._cli.rate_sweeps import loss_at
from experiments.transfer_sweep import BASE, sized
from mdm_jax.errors import MdmError, check_range, check_seed
from mdm_jax.external_files import expand
from mdm_jax.runs.json_files import write_json
from mdm_jax.runs.task_choice import with_data_dir
from mdm_jax.tasks.checks import check_clean
from mdm_jax.tasks.markov_chain import MarkovChain
from mdm_jax.training.optimizers import OptimizerConfig
from mdm_jax.training.transfer import Module
from mdm_jax.training.trust_region import Point, TrustRegion


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a search.

    Attributes:
      task: what is generated.
      data_dir: where the task's files are, for tasks that need some.
      trials: trainings of the search, the first of them with the settings of --train.
      radius: by how many doublings the first proposals change a learning rate, at most.
      modules: kinds of modules that get a learning rate of their own; that of all is searched, too.
      widths: of the networks that settings are carried over to.
      seed: of the proposals.
      train: the base; its task, data_dir and run_dir are set here. Its seed is that of all trials, and
        the next one that of the comparison.
      run_dir: where a directory for each run, and the table, are written.
    """

    task: cli.AnyTask = field(default_factory=lambda: MarkovChain(length=16))
    data_dir: str | None = None
    trials: int = 24
    radius: float = 1.0
    modules: tuple[Module, ...] = get_args(Module)
    widths: tuple[int, ...] = (128,)
    seed: int = 0
    train: train_denoiser.Config = BASE
    run_dir: str = "runs/transfer_search"

    def __post_init__(self) -> None:
        check_range("trials", self.trials, 1)
        check_range("radius", self.radius, above=0)
        check_seed(self.seed)
        for width in self.widths:
            check_range("widths", width, 1)
        if len(set(self.modules)) < len(self.modules):
            raise MdmError("give --modules, each once")
        if self.train.scaling != "none" or self.train.optimizer.module_rates:
            raise MdmError(
                "--train is the base: leave out --train.scaling and --train.optimizer.module_rates"
            )


def run(config: Config) -> TrustRegion:
    """Search, compare, print."""
    task = with_data_dir(config.task, config.data_dir)
    check_clean(task)
    config = replace(config, train=replace(config.train, task=task))
    widths = dict.fromkeys((config.train.model.width, *config.widths))
    targets = {width: sized(config.train, "width", width, "completed-p") for width in widths}
    found = search(config)
    print_flags(settings(config, found.best))
    compare(config, found, targets)
    return found


def search(config: Config) -> TrustRegion:
    """The best of all trials."""
    region = TrustRegion(np.zeros(1 + len(config.modules)), math.inf, config.radius)
    with progress("searching", config.trials) as advance:
        for trial in range(config.trials):
            point = region.propose(config.seed, trial) if trial else region.best
            loss = trained(config, config.train, point, f"trial-{trial:03d}")
            region = region.told(point, loss)
            advance(1, f"loss {loss:.4f}, best {region.loss:.4f}, radius {region.radius:g}")
    if not math.isfinite(region.loss):
        raise MdmError("every trial diverged: give a lower --train.optimizer.learning_rate")
    return region


def settings(config: Config, point: Point) -> OptimizerConfig:
    """The optimiser at a point: doublings of the learning rate of all, then of each module."""
    base, factors = config.train.optimizer, [round(float(2.0**x), 4) for x in point]
    own = [(m, x) for m, x in zip(config.modules, factors[1:], strict=True) if x != 1.0]
    rate = float(f"{base.learning_rate * factors[0]:.6g}")
    return replace(base, learning_rate=rate, module_rates=tuple(own))


def trained(config: Config, train: train_denoiser.Config, point: Point, name: str) -> float:
    """Nats per held-out token after training with the settings of a point."""
    optimizer = settings(config, point)
    return loss_at(replace(train, optimizer=optimizer), expand(config.run_dir) / name)


def compare(
    config: Config, found: TrustRegion, targets: dict[int, train_denoiser.Config]
) -> list[dict[str, Any]]:
    """What the search gains at each width, with a seed that it has not seen."""
    table, plain = [], np.zeros_like(found.best)
    with progress("comparing", 2 * len(targets)) as advance:
        for width, train in targets.items():
            train = replace(train, seed=train.seed + 1)
            losses = {}
            for name, point in (("base", plain), ("searched", found.best)):
                losses[name] = trained(config, train, point, f"{name}-width-{width}")
                advance(1, f"{name}, width {width}: {losses[name]:.4f}")
            table.append({"width": width, **losses})
    cells = []
    for row in table:
        values = row["base"], row["searched"], row["searched"] - row["base"]
        cells.append((str(row["width"]), *(f"{value:.4f}" for value in values)))
    title = "held-out bound, nats per token, with a seed that the search has not seen"
    print_table(title, ("width", "one learning rate", "searched", "difference"), cells)
    write_json(expand(config.run_dir) / "table.json", table)
    return table


def print_flags(optimizer: OptimizerConfig) -> None:
    """What to give train_denoiser."""
    rates = " ".join(f"{module} {rate:g}" for module, rate in optimizer.module_rates)
    flags = f"--optimizer.learning_rate {optimizer.learning_rate:g}"
    print_once(flags + (f" --optimizer.module_rates {rates}" if rates else ""))


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
