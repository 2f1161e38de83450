"""What the tables of the papers share: small tasks, training seeds, and published numbers."""

from abc import ABC
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from experiments import train_denoiser
from experiments._cli.console import print_once, print_table
from experiments._cli.fields import Fixed
from experiments._cli.learning import LearningConfig, compare
from mdm_jax.denoisers.base import Denoise
from mdm_jax.denoisers.transformer import TransformerConfig
from mdm_jax.errors import MdmError, check_range, check_seed
from mdm_jax.evals.paired import PairedRow
from mdm_jax.evals.published_tables import PublishedTable
from mdm_jax.evals.sentences import over_seeds
from mdm_jax.external_files import expand
from mdm_jax.orders.search import SearchConfig
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.runs.task_choice import with_data_dir
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Task
from mdm_jax.tasks.chains import Chains
from mdm_jax.tasks.splits import MOST
from mdm_jax.tasks.sudoku import Sudoku

Learned = tuple[LearnedPolicy, Denoise]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One task of a table.

    Attributes:
      task: what is generated.
      train: training of its denoiser; None: a published checkpoint has to be given.
      search: of the static order that the learning of orders starts from.
    """

    task: Task
    train: train_denoiser.Config | None = None
    search: SearchConfig = field(default_factory=SearchConfig)


SUDOKU = Case(
    task=Sudoku(),
    train=train_denoiser.Config(steps=6000, batch_size=64),
    search=SearchConfig(proposals=1000, chains=24, validation_sequences=2048),
)
# Four operations and two layers: a network that does several operations in one call needs no order
# (three operations, three layers, as many updates: TopConfidence solves 80 % in 4 calls).
CHAINS = Case(
    task=Chains(depth=4),
    train=train_denoiser.Config(
        model=TransformerConfig(depth=2),
        steps=6000,
        batch_size=64,
        eval_every=1000,
        save_every=1000,
    ),
    search=SearchConfig(proposals=1000, chains=8),
)


@dataclass(frozen=True, kw_only=True)
class TableConfig(ABC):
    """Settings of every table.

    Attributes:
      cases: tasks, each with the training of its denoiser; set by the preset.
      only: name of the one task to run; None: all.
      learn: settings of learning; those that differ between the rows of the table are set here.
      seeds: training seeds of each learned policy; they share the denoiser and the test prompts.
      examples: test prompts that every policy completes.
      published: print the published numbers beside ours.
      data_dir: where the tasks' files are, for tasks that need some.
      run_dir: where everything is written.
    """

    cases: Fixed[tuple[Case, ...]] = (SUDOKU, CHAINS)
    only: str | None = None
    learn: LearningConfig
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    examples: int = 4096
    published: bool = False
    data_dir: str | None = None
    run_dir: str

    def __post_init__(self) -> None:
        names = [case.task.name for case in self.cases]
        if self.only not in (None, *names):
            raise MdmError(f"only {self.only!r} is none of {', '.join(names)}")
        if not self.seeds:
            raise MdmError("give at least one of --seeds")
        for seed in self.seeds:
            check_seed(seed, "seeds")
        check_range("examples", self.examples, 1, MOST)


def chosen_cases(config: TableConfig) -> Iterator[tuple[Case, Path]]:
    """The cases to run, with the paths of their tasks filled in, and a directory for each."""
    for case in config.cases:
        task = case.task
        if config.only not in (None, task.name):
            continue
        if hasattr(task, "checkpoint"):
            task = replace(task, checkpoint=config.learn.denoiser)
        if hasattr(task, "data_dir"):
            task = with_data_dir(task, config.data_dir)
        yield replace(case, task=task), expand(config.run_dir) / task.name


def trained_denoiser(case: Case, directory: Path, **settings: Any) -> str:
    """The run directory of the case's denoiser, with some settings of its training replaced.

    Raises:
      MdmError: it is not one that is trained here.
    """
    if case.train is None:
        raise MdmError(f"{case.task.name} needs a published checkpoint: give --learn.denoiser")
    train_denoiser.run(replace(case.train, task=case.task, run_dir=str(directory), **settings))
    return str(directory)


def compare_seeds(
    config: TableConfig,
    learn: Callable[[LearningConfig], Learned],
    settings: LearningConfig,
    sampling: SamplerConfig,
    title: str,
    baselines: Denoise | None = None,
) -> list[PairedRow]:
    """A policy learned with every training seed, and the baselines, on the same prompts; printed.

    Args:
      learn: learns a policy and returns it with its denoiser.
      settings: given to it with each seed; its run_dir is that of all of them.
      baselines: the denoiser of the baselines; None: that of the first seed's policy.
    """
    learned = []
    for seed in config.seeds:
        print_once(f"{title}, seed {seed}")
        run_dir = f"{settings.run_dir}/seed-{seed}"
        learned.append(learn(replace(settings, seed=seed, run_dir=run_dir)))
    evaluation = replace(settings, seed=0, examples=config.examples)
    baselines = learned[0][1] if baselines is None else baselines
    rows = compare(evaluation, learned, baselines, sampling, title)
    print_once(over_seeds(rows))
    return rows


def print_published(table: PublishedTable) -> None:
    """Published numbers beside ours."""
    cells = [[str(cell) for cell in row] for row in table.rows]
    title = f"published ({table.source}, as reported second-hand)"
    print_table(title, table.columns, cells, texts=2)
