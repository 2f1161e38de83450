"""Train denoisers of several sizes at equal FLOPs, for fit_laws: --task chains, sudoku, text8, ...

  python -m experiments.scaling_sweep --task chains --plan
  python -m experiments.scaling_sweep --task chains --budgets 1e12 3e12 1e13 --widths 16 32 64 128

Prints what every budget buys at every width, and trains each in a directory of its own. All runs share
their held-out sequences and masks. The same command resumes; finished runs are not trained again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import NamedTuple

from experiments import _cli as cli
from experiments import train_denoiser
from experiments._cli.console import print_once, print_table
from mdm_jax.errors import MdmError, check_range, check_seed
from mdm_jax.external_files import expand
from mdm_jax.runs.scaling import matrix_parameters, training_flops_per_token, updates_within
from mdm_jax.runs.task_choice import with_data_dir
from mdm_jax.tasks.base import Task
from mdm_jax.tasks.checks import check_clean
from mdm_jax.tasks.sudoku import Sudoku

FEWEST = 20  # updates; with fewer a loss says nothing about size


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a sweep.

    Attributes:
      task: what is generated.
      data_dir: where the task's files are, for tasks that need some.
      budgets: FLOPs of training, 6 N + 12 depth width length for each token, N without embeddings.
      widths: of the networks, at one depth.
      head_size: width of an attention head, the same for all.
      learning_rates: of each width, where one does not serve all.
      train: settings of every training; its task, data_dir, run_dir, seed, steps and the width, heads
        and MLP of its model are set here.
      seed: of everything that is random; the same for all runs, so that held-out masks are, too.
      plan: print what would be trained, and stop.
      run_dir: where a directory for each run is written.
    """

    task: cli.AnyTask = field(default_factory=Sudoku)
    data_dir: str | None = None
    budgets: tuple[float, ...] = (3e11, 1e12, 3e12)
    widths: tuple[int, ...] = (16, 32, 48, 64, 96)
    head_size: int = 16
    learning_rates: tuple[float, ...] = ()
    train: train_denoiser.Config = field(
        default_factory=lambda: train_denoiser.Config(eval_every=10**6, save_every=1000)
    )
    seed: int = 0
    plan: bool = False
    run_dir: str = "runs/scaling_sweep"

    def __post_init__(self) -> None:
        for name in ("budgets", "widths"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise MdmError(f"give --{name}, each once")
        for budget in self.budgets:
            check_range("budgets", budget, above=0)
        check_range("head_size", self.head_size, 2)
        for width in self.widths:
            if width < self.head_size or width % self.head_size:
                raise MdmError(f"widths {width} is no multiple of head_size {self.head_size}")
        if len(self.learning_rates) not in (0, len(self.widths)):
            raise MdmError(f"give one of --learning_rates for each of {len(self.widths)} widths")
        check_seed(self.seed)


class Planned(NamedTuple):
    """One training, and the FLOPs it was planned for."""

    budget: float
    train: train_denoiser.Config


def run(config: Config) -> list[str]:
    """Plan, print, train; the run directories."""
    planned = plans(config)
    print_plan(planned)
    directories = [str(each.train.run_dir) for each in planned]
    if not config.plan:
        for each in planned:
            train_denoiser.train(each.train)
        print_once(
            f"python -m experiments.fit_laws --approach isoflop --runs {expand(config.run_dir)}/*"
        )
    return directories


def plans(config: Config) -> list[Planned]:
    """A training for every budget and width, smallest first.

    Raises:
      MdmError: a budget pays for too few updates at a width.
    """
    task = with_data_dir(config.task, config.data_dir)
    check_clean(task)
    rates = config.learning_rates or (config.train.optimizer.learning_rate,) * len(config.widths)
    pairs = product(sorted(config.budgets), sorted(zip(config.widths, rates, strict=True)))
    return [_planned(config, task, budget, *pair) for budget, pair in pairs]


def _planned(
    config: Config, task: Task, budget: float, width: int, learning_rate: float
) -> Planned:
    base = config.train
    model = replace(base.model, width=width, heads=width // config.head_size, mlp=None)
    steps = updates_within(budget, model, task.length, base.batch_size)
    if steps < FEWEST:
        raise MdmError(
            f"{budget:.3g} FLOPs are {steps} updates at width {width}: leave out that width or "
            f"budget, or lower --train.batch_size, as at least {FEWEST} are needed"
        )
    train = replace(
        base,
        task=task,
        model=model,
        optimizer=replace(base.optimizer, learning_rate=learning_rate),
        steps=steps,
        seed=config.seed,
        run_dir=str(expand(config.run_dir) / f"flops-{budget:g}-width-{width}"),
    )
    return Planned(budget, train)


def print_plan(planned: Sequence[Planned]) -> None:
    """What every budget buys."""
    cells = []
    for budget, train in planned:
        tokens = train.steps * train.batch_size * train.task.length
        each = training_flops_per_token(train.model, train.task.length)
        sizes = train.model.width, matrix_parameters(train.model), train.steps, tokens
        cells.append((f"{budget:g}", *(f"{x:,}" for x in sizes), f"{tokens * each:.3g}"))
    columns = ("budget", "width", "parameters", "updates", "tokens", "FLOPs")
    print_table(f"{planned[0].train.task.name}: {len(planned)} runs", columns, cells)


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
