"""The table of "Learning generation orders by variational inference" (arXiv:2602.23968).

For every task and budget: the learned order of several training seeds, the basic policies at its mean
and its maximum number of denoiser calls, threshold policies at matched calls, and, where the task can be
listed, the best static order under exact conditionals. The default is an embedded setting; --preset
paper is the published one, --preset paper-smoke the same path with a tiny network for a few updates,
--preset oracle the empty 4x4 grid under exact conditionals.
Runs that are finished are not done again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.table import Table

from experiments import _cli as cli
from experiments import learn_order, train_denoiser
from experiments._cli.console import console, print_once, progress
from experiments._cli.tables import print_paired_rows, print_seeds
from experiments.small_tasks import CHAINS, CHAINS_TRAINING, SUDOKU, SUDOKU_TRAINING
from mdm_jax.denoisers.base import Denoise
from mdm_jax.denoisers.transformer import TransformerConfig
from mdm_jax.evals.matched import compare_at_equal_calls, evaluator_in
from mdm_jax.evals.paired import PairedRow
from mdm_jax.orders.search import SearchConfig
from mdm_jax.orders.variational.objective import OrderObjective
from mdm_jax.orders.variational.posterior import ScorerConfig
from mdm_jax.policies.networks.policy_network import PolicyConfig
from mdm_jax.runs.denoisers import exact_denoiser, load_denoiser
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Task
from mdm_jax.tasks.gsm8k import Gsm8k
from mdm_jax.tasks.sudoku import Sudoku
from mdm_jax.training.optimizers import OptimizerConfig

# accuracy %, mean calls, [min, max]; GSM8K, 170M parameters (fragments of the paper's Table 1)
PUBLISHED = (
    (5, "learned", 33.1, 4.01, "[2, 5]"),
    (5, "Ancestral at the learned mean", 29.0, 4.0, "[4, 4]"),
    (5, "TopConfidence at the learned mean", 23.7, 4.0, "[4, 4]"),
    (5, "TopMargin at the learned mean", 24.0, 4.0, "[4, 4]"),
    (10, "learned", 37.8, 9.57, "[7, 10]"),
    (10, "TopMargin at the learned maximum", 39.5, 10.0, "[10, 10]"),
    (15, "learned", 39.0, 9.43, "[5, 12]"),
    (15, "TopMargin at the learned maximum", 42.3, 12.0, "[12, 12]"),
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One task, how its denoiser is trained, and how much its start is searched."""

    task: Task
    train: train_denoiser.Config
    search: SearchConfig


EMBEDDED = (
    Case(
        task=SUDOKU,
        train=SUDOKU_TRAINING,
        search=SearchConfig(proposals=1000, chains=16, validation_sequences=2048),
    ),
    Case(task=CHAINS, train=CHAINS_TRAINING, search=SearchConfig(proposals=1000, chains=2)),
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the table.

    Attributes:
      cases: tasks, each with the training of its denoiser; set by the preset.
      only: the name of one task, to leave out the others.
      learn: settings of learning an order; task, denoiser, search, budget, seed and run_dir are set here.
      budgets: most denoiser calls.
      seeds: training seeds of each learned order; they share the denoiser and the prompts.
      control_steps: updates of vanilla training that the basic policies' denoiser gets on top, as a
        match for a denoiser that learns along; 0: they use the one that the orders started from.
      examples: prompts for every row.
      published: print the published numbers beside ours.
      data_dir: where the tasks' files are, for tasks that need some.
      run_dir: where everything is written.
    """

    cases: cli.Fixed[tuple[Case, ...]] = EMBEDDED
    only: str | None = None
    learn: learn_order.Config = field(default_factory=learn_order.Config)
    budgets: tuple[int, ...] = (3, 4, 5)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    control_steps: int = 0
    examples: int = 4096
    published: bool = False
    data_dir: str | None = None
    run_dir: str = "runs/table_variational_orders"

    def __post_init__(self) -> None:
        if not self.budgets or not self.seeds:
            raise ValueError("give at least one of --budgets and one of --seeds")
        names = [case.task.name for case in self.cases]
        if self.only is not None and self.only not in names:
            raise ValueError(f"--only {self.only!r} is none of this preset's tasks: {names}")


# 170M non-embedding parameters as in SMDM; 15 + 5 epochs of the augmented data (arXiv:2602.23968)
PAPER = Config(
    cases=(
        Case(
            task=Gsm8k(answers="equations"),
            train=train_denoiser.Config(
                model=TransformerConfig(
                    width=768, depth=18, heads=12, mlp=3072, dtype="bfloat16", remat=True, scan=True
                ),
                steps=45_000,
                batch_size=256,
                optimizer=OptimizerConfig(learning_rate=2e-4, b2=0.95, weight_decay=0.1),
                ema_decay=0.9999,
                eval_every=5000,
                save_every=5000,
                log_every=100,
            ),
            search=SearchConfig(proposals=0),
        ),
    ),
    learn=learn_order.Config(
        scorer=ScorerConfig(width=256, depth=4),
        policy=PolicyConfig(width=256, hidden=True),
        objective=OrderObjective(temperature=0.1, predicted_nll=False),
        joint=True,
        steps=15_000,
        batch_size=32,
        posterior_optimizer=OptimizerConfig(learning_rate=2e-4, b2=0.95, weight_decay=0.1),
        policy_optimizer=OptimizerConfig(learning_rate=2e-4, b2=0.95, weight_decay=0.1),
        denoiser_optimizer=OptimizerConfig(learning_rate=5e-5, b2=0.95, weight_decay=0.1),
        ema_decay=0.999,
        temperature=0.0,
        eval_batch_size=128,
    ),
    budgets=(5, 10, 15),
    seeds=(0,),
    control_steps=15_000,
    examples=1319,
    published=True,
    run_dir="runs/table_variational_orders-paper",
)
# the same path with a tiny network for a few updates: shows that the preset runs, nothing else
SMOKE = replace(
    PAPER,
    cases=(
        replace(
            PAPER.cases[0],
            train=replace(
                PAPER.cases[0].train,
                model=TransformerConfig(width=32, depth=2, heads=2, remat=True, scan=True),
                steps=4,
                batch_size=8,
                heldout_rows=8,
            ),
        ),
    ),
    learn=replace(
        PAPER.learn,
        scorer=ScorerConfig(width=32, depth=1, heads=2),
        policy=PolicyConfig(width=32, heads=2, hidden=True),
        steps=3,
        batch_size=4,
        heldout_rows=4,
        eval_batch_size=8,
    ),
    budgets=(5,),
    control_steps=2,
    examples=8,
    run_dir="runs/table_variational_orders-paper-smoke",
)
# the empty grid under exact conditionals: nothing but the order can be wrong
ORACLE = replace(
    Config(),
    cases=(
        replace(
            EMBEDDED[0],
            task=Sudoku(max_clues=0),
            search=SearchConfig(proposals=1000, chains=16, sequences=128),
        ),
    ),
    learn=replace(Config().learn, oracle=True),
    budgets=(4,),
    run_dir="runs/table_variational_orders-oracle",
)
PRESETS = {"default": Config(), "oracle": ORACLE, "paper": PAPER, "paper-smoke": SMOKE}


def run(config: Config) -> dict[str, list[PairedRow]]:
    """Train what is missing, compare, print; rows by task and budget."""
    tables = {}
    for case in config.cases:
        if config.only not in (None, case.task.name):
            continue
        case = replace(case, task=cli.with_data_dir(case.task, _data_dir(case.task, config)))
        home = Path(config.run_dir) / case.task.name
        start, control = denoisers(config, case, home)
        for budget in config.budgets:
            name = f"{case.task.name}, at most {budget} denoiser calls, {config.examples} prompts"
            tables[name] = compare(config, case, start, control, budget, home / f"budget-{budget}")
            print_paired_rows(tables[name], name)
            print_seeds(tables[name])
    if config.published:
        print_published(config.budgets)
    return tables


def _data_dir(task: Task, config: Config) -> str | None:
    return config.data_dir if hasattr(task, "data_dir") else None


def denoisers(config: Config, case: Case, home: Path) -> tuple[Path | None, Denoise]:
    """The run of the denoiser that orders start from (None: exact conditionals), and the denoiser of
    the basic policies.
    """
    if config.learn.oracle:
        return None, exact_denoiser(case.task)
    start = train(case, home / "denoiser", 0)
    more = config.control_steps
    control = train(case, home / "control", more) if more else start
    return start, load_denoiser(control, case.task).denoise


def train(case: Case, directory: Path, more: int) -> Path:
    """A run directory with the denoiser, trained for `more` updates than the case says."""
    steps = case.train.steps + more
    train_denoiser.run(replace(case.train, task=case.task, steps=steps, run_dir=str(directory)))
    return directory


def compare(
    config: Config,
    case: Case,
    start: Path | None,
    control: Denoise,
    budget: int,
    directory: Path,
) -> list[PairedRow]:
    """Learned orders of all seeds, then everyone else, on the same prompts."""
    learned = []
    for seed in config.seeds:
        one = replace(
            config.learn,
            task=case.task,
            start=replace(config.learn.start, search=case.search),
            denoiser=None if start is None else str(start),
            budget=budget,
            seed=seed,
            run_dir=str(directory / f"seed-{seed}"),
        )
        print_once(f"{case.task.name}, budget {budget}, seed {seed}")
        found = learn_order.learn(one)
        learned.append((found.policy, found.denoise))
    evaluator = evaluator_in(
        directory,
        case.task,
        control,
        SamplerConfig(temperature=config.learn.temperature),
        examples=config.examples,
        batch_size=config.learn.eval_batch_size,
        seed=0,
    )
    return compare_at_equal_calls(evaluator, learned, 0, progress)


def print_published(budgets: Sequence[int]) -> None:
    """The published rows of the same budgets."""
    table = Table(title="published (arXiv:2602.23968, Table 1, as reported second-hand)")
    for name in ("budget", "policy", "accuracy %", "mean calls", "[min, max]"):
        table.add_column(name)
    for budget, *row in PUBLISHED:
        if budget in budgets:
            table.add_row(str(budget), *map(str, row))
    console.print(table)


if __name__ == "__main__":
    cli.main(Config, run, __doc__, PRESETS)
