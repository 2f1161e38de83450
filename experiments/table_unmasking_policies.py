"""The table of "Learning unmasking policies for diffusion language models" (arXiv:2512.09106).

For every task and every weight of speed in the reward: policies of several training seeds, the basic
policies at the same numbers of denoiser calls, and a figure of both frontiers. The default is an
embedded setting; --preset paper is the published one for --learn.denoiser, the directory of a checkpoint.
Runs that are finished are not done again.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.table import Table

from experiments import _cli as cli
from experiments import learn_policy, train_denoiser
from experiments._cli.console import console, print_once, progress
from experiments._cli.tables import headline, print_paired_rows, print_seeds
from experiments.small_tasks import CHAINS, CHAINS_TRAINING, SUDOKU, SUDOKU_TRAINING
from mdm_jax.evals import plots
from mdm_jax.evals.matched import compare_at_equal_calls, evaluator_in
from mdm_jax.evals.paired import PairedRow
from mdm_jax.rl.rewards import Multiplicative
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Task
from mdm_jax.tasks.prompted import PromptedGsm8k, PromptedMath

# setting, policy, mean calls, accuracy %; LLaDA-8B-Instruct, 256 positions (appendix J of the paper)
PUBLISHED = (
    ("GSM8K, blocks of 32", "learned, weight 10", "10.3", "35.2 +- 0.3"),
    ("GSM8K, blocks of 32", "ConfidenceThreshold", "10.6", "17.5"),
    ("MATH-500, blocks of 32", "learned, weight 10", "about 10", "15.3 +- 0.2"),
    ("MATH-500, blocks of 32", "ConfidenceThreshold", "about 10", "7.4"),
    ("GSM8K, one block", "learned", "13.0", "48.3 +- 0.6"),
    ("GSM8K, one block", "learned", "50.5", "56.1 +- 0.9"),
    ("GSM8K, one block, steered", "learned", "70.5", "77.2 +- 0.4"),
    ("MATH-500, one block", "learned", "121.5", "22.9 +- 1.0"),
    ("MATH-500, one block, steered", "learned", "86.7", "31.4 +- 0.5"),
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One task, and how its denoiser is trained where none is given (None: one must be given)."""

    task: Task
    train: train_denoiser.Config | None = None


EMBEDDED = (
    Case(task=SUDOKU, train=SUDOKU_TRAINING),
    Case(task=CHAINS, train=CHAINS_TRAINING),
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the table.

    Attributes:
      cases: tasks, each with the training of its denoiser; set by the preset.
      only: the name of one task, to leave out the others.
      learn: settings of learning; task, seed, weight and run_dir are set here, and its denoiser is
        trained here unless it is given.
      weights: of speed in the reward.
      seeds: training seeds of each policy; they share the denoiser and the prompts.
      examples: prompts for every row.
      published: print the published numbers beside ours.
      data_dir: where the tasks' files are, for tasks that need some.
      run_dir: where everything is written.
    """

    cases: cli.Fixed[tuple[Case, ...]] = EMBEDDED
    only: str | None = None
    learn: learn_policy.Config = field(default_factory=learn_policy.Config)
    weights: tuple[float, ...] = (10.0, 3.0, 1.0, 0.3, 0.0)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    examples: int = 4096
    published: bool = False
    data_dir: str | None = None
    run_dir: str = "runs/table_unmasking_policies"

    def __post_init__(self) -> None:
        names = [case.task.name for case in self.cases]
        if self.only not in (None, *names):
            raise ValueError(f"only {self.only!r} is none of {', '.join(names)}")
        if not self.weights or not self.seeds:
            raise ValueError("give at least one of --weights and one of --seeds")


def run(config: Config) -> dict[str, list[PairedRow]]:
    """Train what is missing, compare, print, draw; rows by task and weight."""
    tables = {}
    for case in config.cases:
        if config.only not in (None, case.task.name):
            continue
        case = replace(case, task=located(case.task, config))
        home = Path(config.run_dir) / case.task.name
        denoiser = config.learn.denoiser or train(case, home / "denoiser")
        found = {
            w: compare(config, case, denoiser, w, home / f"weight-{w:g}") for w in config.weights
        }
        for weight, rows in found.items():
            name = f"{case.task.name}, weight {weight:g}, {config.examples} prompts"
            tables[name] = rows
            print_paired_rows(rows, name)
            print_seeds(rows)
            print_once(headline([paired_row.row for paired_row in rows]) + "\n")
        draw(found, home / "frontier.png")
    if config.published:
        print_published()
    return tables


def located(task: Task, config: Config) -> Task:
    """The task with its files, and with the checkpoint whose words it speaks."""
    if hasattr(task, "checkpoint"):
        task = replace(task, checkpoint=config.learn.denoiser)
    return cli.with_data_dir(task, config.data_dir) if hasattr(task, "data_dir") else task


def train(case: Case, directory: Path) -> str:
    """The run directory of the case's denoiser.

    Raises:
      ValueError: it is not one that is trained here.
    """
    if case.train is None:
        raise ValueError(
            f"{case.task.name} is put to a published checkpoint: give --learn.denoiser"
        )
    train_denoiser.run(replace(case.train, task=case.task, run_dir=str(directory)))
    return str(directory)


def compare(
    config: Config, case: Case, denoiser: str, weight: float, directory: Path
) -> list[PairedRow]:
    """Policies of all seeds at one weight, then everyone else, on the same prompts."""
    learn = replace(
        config.learn,
        task=case.task,
        denoiser=denoiser,
        objective=replace(config.learn.objective, reward=Multiplicative(weight)),
    )
    learned = []
    for seed in config.seeds:
        print_once(f"{case.task.name}, weight {weight:g}, seed {seed}")
        learned.append(
            learn_policy.learn(replace(learn, seed=seed, run_dir=str(directory / f"seed-{seed}")))
        )
    evaluator = evaluator_in(
        directory,
        case.task,
        learned[0].denoise,
        SamplerConfig(temperature=learn.temperature, block_length=learn.block_length),
        examples=config.examples,
        batch_size=learn.eval_batch_size,
        seed=0,
    )
    return compare_at_equal_calls(evaluator, learned, 0, progress)


def draw(found: dict[float, list[PairedRow]], path: Path) -> None:
    """All rows of all weights: one line per basic policy, and the learned policies by weight."""
    rows = {
        paired_row.row.label: paired_row.row for table in found.values() for paired_row in table
    }
    plots.save(plots.frontier_figure(list(rows.values())), path)
    print_once(f"figure: {path}")


def print_published() -> None:
    """The published rows that are known."""
    table = Table(title="published (arXiv:2512.09106, LLaDA-8B-Instruct, as reported second-hand)")
    for name in ("setting", "policy", "mean calls", "accuracy %"):
        table.add_column(name)
    for row in PUBLISHED:
        table.add_row(*row)
    console.print(table)


# the published setting, but for its training set: there one policy learned from GSM8K and MATH together
PAPER = Config(
    cases=(Case(task=PromptedGsm8k()), Case(task=PromptedMath())),
    learn=replace(learn_policy.PUBLISHED, eval_batch_size=1),
    seeds=(0, 1),
    examples=1319,
    published=True,
    run_dir="runs/table_unmasking_policies-paper",
)
PRESETS = {"default": Config(), "paper": PAPER}

if __name__ == "__main__":
    cli.main(Config, run, __doc__, PRESETS)
