"""Learning rates in function space: larger networks whose updates move the outputs as a small one's do.

  python -m experiments.flerm --widths 128 256 --depths 2

Trains --model at each learning rate, and records how far the update of every parameter moves the logits.
Every other size is trained at the same rates twice: with a learning rate for each parameter that makes
its updates move the logits as far (FLeRM), and with one for all. Prints how far the best learning rate
moves, and writes table.json and rates.png. Finished runs are not trained again. arXiv:2502.17405.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

from experiments import _cli as cli
from experiments._cli.console import print_once, progress
from experiments._cli.rate_sweeps import report_sweeps
from mdm_jax.denoisers.transformer import TransformerConfig
from mdm_jax.errors import MdmError, check_range, check_seed
from mdm_jax.external_files import expand
from mdm_jax.laws.rate_sweep import RateSweep
from mdm_jax.runs.directory import open_run
from mdm_jax.runs.json_files import read_json, write_json
from mdm_jax.runs.task_choice import with_data_dir
from mdm_jax.runs.trainings.flerm import Finished, FlermTraining, Record
from mdm_jax.tasks.base import stream_of
from mdm_jax.tasks.checks import check_clean
from mdm_jax.tasks.markov_chain import MarkovChain
from mdm_jax.tasks.splits import MOST
from mdm_jax.training.optimizers import OptimizerConfig

RESULT = "result.json"
RULES = ("flerm", "none")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the comparison.

    Attributes:
      task: what is generated.
      data_dir: where the task's files are, for tasks that need some.
      model: the small network, the base.
      rates: learning rates that are tried.
      widths: of larger networks, with heads as wide.
      depths: of deeper networks, multiples of the base's: what its blocks move is split between copies.
      optimizer: AdamW; its learning rate is set here.
      every: updates between measurements.
      steps, batch_size: of every training.
      ema_decay: of the averaged weights, which are the ones evaluated.
      heldout_rows: sequences of the held-out bound, 8 masks each.
      seed: of everything that is random.
      run_dir: where a directory for each run, table and figure are written.
    """

    task: cli.AnyTask = field(default_factory=lambda: MarkovChain(length=16))
    data_dir: str | None = None
    model: TransformerConfig = field(default_factory=lambda: TransformerConfig(width=64, depth=1))
    rates: tuple[float, ...] = (0.004, 0.008, 0.016, 0.032)
    widths: tuple[int, ...] = (256,)
    depths: tuple[int, ...] = ()
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    every: int = 10
    steps: int = 100
    batch_size: int = 32
    ema_decay: float = 0.99
    heldout_rows: int = 128
    seed: int = 0
    run_dir: str = "runs/flerm"

    def __post_init__(self) -> None:
        if not self.rates or len(set(self.rates)) < len(self.rates):
            raise MdmError("give --rates, each once")
        for rate in self.rates:
            check_range("rates", rate, above=0)
        for name in ("every", "batch_size"):
            check_range(name, getattr(self, name), 1, MOST)
        check_range("steps", self.steps, 2, MOST)
        check_range("heldout_rows", self.heldout_rows, 2, MOST)
        check_range("ema_decay", self.ema_decay, 0, below=1)
        check_seed(self.seed)
        if self.model.scan or self.model.base_width or self.model.base_depth:
            raise MdmError(
                "leave out --model.scan, .base_width and .base_depth: every parameter of every block "
                "has a learning rate of its own here"
            )
        if not self.widths and not self.depths:
            raise MdmError("give other sizes than the base's: --widths, --depths")


def run(config: Config) -> list[RateSweep]:
    """Record, match, print, draw."""
    task = with_data_dir(config.task, config.data_dir)
    check_clean(task)
    if stream_of(task) is not None:
        raise MdmError(f"task {task.name} has several modalities: take another one")
    config, rates = replace(config, task=task), tuple(sorted(config.rates))
    axes = {axis: models(config, axis) for axis in ("width", "depth")}
    axes = {axis: found for axis, found in axes.items() if len(found) > 1}
    count = 1 + 2 * sum(len(found) - 1 for found in axes.values())
    with progress("updating", count * len(rates) * config.steps) as advance:
        base = trained(config, config.model, None, "base", advance)
        records = [one.record for one in base]
        sweeps = []
        for axis, found in axes.items():
            for rule in RULES:
                wanted, losses = records if rule == "flerm" else None, {}
                for size, model in found.items():
                    name = f"{rule}-{axis}-{size}"
                    own = model != config.model
                    runs = trained(config, model, wanted, name, advance) if own else base
                    losses[size] = tuple(one.loss for one in runs)
                sweeps.append(RateSweep(rule, axis, rates, losses, getattr(config.model, axis)))
    report_sweeps(sweeps, config.run_dir)
    return sweeps


def models(config: Config, axis: str) -> dict[int, TransformerConfig]:
    """The base and the other networks of an axis, by size.

    Raises:
      MdmError: heads as wide as the base's do not divide a width, or a depth is no multiple.
    """
    base = config.model
    head, found = base.width // base.heads, {getattr(base, axis): base}
    for width in config.widths if axis == "width" else ():
        if width < head or width % head:
            raise MdmError(
                f"width {width} is no multiple of the base's heads, which are {head} wide"
            )
        found.setdefault(width, replace(base, width=width, heads=width // head))
    for depth in config.depths if axis == "depth" else ():
        if depth < 1 or depth % base.depth:
            raise MdmError(f"depth {depth} is no multiple of the base's {base.depth}")
        found.setdefault(depth, replace(base, depth=depth))
    return found


def trained(
    config: Config,
    model: TransformerConfig,
    wanted: list[Record] | None,
    name: str,
    advance: Any,
) -> list[Finished]:
    """One network at every learning rate, lowest first; finished ones are read."""
    shared = cli.select(FlermTraining, config, model=model, base_depth=config.model.depth)
    found = []
    for index, rate in enumerate(sorted(config.rates)):
        goal = None if wanted is None else wanted[index]
        home = expand(config.run_dir) / f"{name}-rate-{rate:g}"
        found.append(one_run(shared, rate, goal, home, advance))
        print_once(f"{home.name}: {found[-1].loss:.4f} nats per token")
    return found


def one_run(
    training: FlermTraining, rate: float, wanted: Record | None, home: Any, advance: Any
) -> Finished:
    """A training in its directory, which keeps the settings and what is left of it."""
    described = {name: getattr(training, name) for name in training.__dataclass_fields__}
    described |= {"rate": rate, "matched": wanted is not None}
    with open_run(home, "flerm", described) as directory:
        if (directory / RESULT).exists():
            kept = read_json(directory / RESULT)
            advance(training.steps)
            loss = math.inf if kept["loss"] is None else kept["loss"]
            return Finished(loss, kept["record"])
        found = training.run(rate, wanted, advance)
        loss = found.loss if math.isfinite(found.loss) else None
        write_json(directory / RESULT, {"loss": loss, "record": found.record})
    return found


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
