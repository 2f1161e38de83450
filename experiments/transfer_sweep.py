"""Loss against learning rate for several widths, depths, batches and durations, with and without rules.

  python -m experiments.transfer_sweep --widths 128 256
  python -m experiments.transfer_sweep --widths --depths 4 8 --rates 0.002 0.004 0.008 --plan

--train is the base. Every other size is trained at each learning rate twice: with the settings that
--scaling completed-p takes over from the base, and with the base's own. The same command resumes;
finished runs are not trained again. Prints how far the best learning rate moves, and writes table.json
and rates.png.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from statistics import fmean
from typing import Literal, NamedTuple

from experiments import _cli as cli
from experiments import train_denoiser
from experiments._cli.console import print_once, progress
from experiments._cli.rate_sweeps import loss_at, report_sweeps
from mdm_jax.denoisers.transformer import TransformerConfig
from mdm_jax.errors import MdmError, check_range, check_seed
from mdm_jax.external_files import expand
from mdm_jax.laws.rate_sweep import RateSweep
from mdm_jax.runs.task_choice import with_data_dir
from mdm_jax.runs.trainings.transfer import Base
from mdm_jax.tasks.checks import check_clean
from mdm_jax.tasks.markov_chain import MarkovChain

Rule = Literal["completed-p", "none"]
RULES: tuple[Rule, ...] = ("completed-p", "none")
AXES = {"widths": "width", "depths": "depth", "batch_sizes": "batch size", "durations": "updates"}

BASE = train_denoiser.Config(
    model=TransformerConfig(width=64, depth=1),
    batch_size=32,
    steps=100,
    heldout_rows=128,
    eval_every=10**6,
    save_every=1000,
)  # minutes for a sweep on two cores


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a sweep.

    Attributes:
      task: what is generated.
      data_dir: where the task's files are, for tasks that need some.
      rates: learning rates of the base that are tried.
      widths, depths: of other networks, the rest as in the base; heads are as wide.
      batch_sizes: others, at the same number of training tokens.
      durations: other numbers of updates, at the same batch.
      train: the base; its task, data_dir, run_dir, learning rate and seed are set here, and
        --train.base.alpha and .token_exponent are those of the rules.
      seeds: of weights, batches and masks; losses are means over them.
      plan: print what would be trained, and stop.
      run_dir: where a directory for each run, table and figure are written.
    """

    task: cli.AnyTask = field(default_factory=lambda: MarkovChain(length=16))
    data_dir: str | None = None
    rates: tuple[float, ...] = (0.002, 0.004, 0.008, 0.016, 0.032, 0.064)
    widths: tuple[int, ...] = (128, 256)
    depths: tuple[int, ...] = ()
    batch_sizes: tuple[int, ...] = ()
    durations: tuple[int, ...] = ()
    train: train_denoiser.Config = BASE
    seeds: tuple[int, ...] = (0,)
    plan: bool = False
    run_dir: str = "runs/transfer_sweep"

    def __post_init__(self) -> None:
        if len(set(self.rates)) < max(len(self.rates), 3):
            raise MdmError(f"rates {self.rates} must be three different learning rates or more")
        for rate in self.rates:
            check_range("rates", rate, above=0)
        for size in (size for name in AXES for size in getattr(self, name)):
            check_range("every size", size, 1)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise MdmError("give --seeds, each once")
        for seed in self.seeds:
            check_seed(seed, "seeds")
        if self.train.scaling != "none":
            raise MdmError("--train is the base of the others: leave out --train.scaling")


class Run(NamedTuple):
    """One size by one rule, to be trained at each learning rate."""

    rule: Rule
    axis: str
    size: int
    train: train_denoiser.Config


def run(config: Config) -> list[RateSweep]:
    """Plan, train, print, draw."""
    task = with_data_dir(config.task, config.data_dir)
    check_clean(task)
    config = replace(config, train=replace(config.train, task=task))
    planned = plans(config)
    rates = tuple(sorted(config.rates))
    trainings = {each.train.run_dir: each.train for each in planned}
    grid = list(product(trainings.items(), rates, config.seeds))
    print_once(f"{len(grid)} runs of {task.name}: {', '.join(trainings)}")
    if config.plan:
        return []
    found: dict[tuple[str, float], list[float]] = {}
    with progress("sweeping", len(grid)) as advance:
        for (name, train), rate, seed in grid:
            optimizer = replace(train.optimizer, learning_rate=rate)
            directory = expand(config.run_dir) / f"{name}-rate-{rate:g}-seed-{seed}"
            loss = loss_at(replace(train, optimizer=optimizer, seed=seed), directory)
            found.setdefault((name, rate), []).append(loss)
            advance(1, f"{directory.name}: {loss:.3f}")
    losses = {name: tuple(fmean(found[name, rate]) for rate in rates) for name in trainings}
    sweeps = collect(planned, rates, losses)
    report_sweeps(sweeps, config.run_dir)
    return sweeps


def plans(config: Config) -> list[Run]:
    """Base and other sizes of every axis that has some, by both rules.

    Raises:
      MdmError: no axis has other sizes, or as `sized`.
    """
    found = []
    for name, axis in AXES.items():
        others = getattr(config, name)
        for rule in RULES if others else ():
            sizes = dict.fromkeys((size_of(config.train, axis), *others))
            found += [
                Run(rule, axis, size, sized(config.train, axis, size, rule)) for size in sizes
            ]
    if not found:
        raise MdmError(f"give other sizes than the base's: --{', --'.join(AXES)}")
    return found


def size_of(train: train_denoiser.Config, axis: str) -> int:
    """The size of a training along an axis."""
    model = train.model
    sizes = (model.width, model.depth, train.batch_size, train.steps)
    return dict(zip(AXES.values(), sizes, strict=True))[axis]


def sized(base: train_denoiser.Config, axis: str, size: int, rule: Rule) -> train_denoiser.Config:
    """The training of one size; the base itself is the same by both rules.

    Raises:
      MdmError: heads as wide as the base's do not divide the width.
    """
    if size == size_of(base, axis):
        return replace(base, run_dir="base")
    model, changed = base.model, {}
    head = model.width // model.heads
    if axis == "width":
        if size % head:
            raise MdmError(
                f"width {size} is no multiple of the base's heads, which are {head} wide"
            )
        changed["model"] = replace(model, width=size, heads=size // head)
    elif axis == "depth":
        changed["model"] = replace(model, depth=size)
    elif axis == "updates":
        changed["steps"] = size
    else:
        changed |= {"batch_size": size, "steps": max(base.steps * base.batch_size // size, 1)}
    if rule != "none":
        changed |= {"scaling": rule, "base": as_base(base)}
    return replace(base, run_dir=f"{rule}-{axis.replace(' ', '-')}-{size}", **changed)


def as_base(train: train_denoiser.Config) -> Base:
    """The base, for the trainings that take over its settings."""
    tokens = float(train.task.length * train.batch_size * train.steps)
    sizes = {
        name: size_of(train, name.replace("_", " ")) for name in ("width", "depth", "batch_size")
    }
    return replace(train.base, tokens=tokens, **sizes)


def collect(
    planned: Sequence[Run], rates: tuple[float, ...], losses: dict[str, tuple[float, ...]]
) -> list[RateSweep]:
    """The losses by rule and axis."""
    sweeps: dict[tuple[str, str], RateSweep] = {}
    for rule, axis, size, train in planned:
        sweep = sweeps.setdefault((axis, rule), RateSweep(rule, axis, rates, {}, size))
        sweep.losses[size] = losses[train.run_dir]
    return list(sweeps.values())


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
