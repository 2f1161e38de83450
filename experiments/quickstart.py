"""Quickstart: train a denoiser, learn an order for it, and compare it with the heuristic baselines.

The default is 4x4 Sudoku with 0 to 4 clues: nothing is downloaded, and two CPU cores are enough.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from experiments import _cli as cli
from experiments import learn_order, train_denoiser
from experiments._cli.animation import play
from experiments._cli.console import print_once, progress
from experiments._cli.tables import print_rows
from mdm_jax.denoisers.base import Denoise
from mdm_jax.errors import check_range, check_seed
from mdm_jax.evals.directory import COMPARISON, open_store
from mdm_jax.evals.evaluator import Evaluator
from mdm_jax.evals.generate import Batching, Parallel, check_request
from mdm_jax.evals.plots.run_figures import draw_comparison
from mdm_jax.evals.replay import stored_frames
from mdm_jax.evals.score import Row
from mdm_jax.evals.sentences import headline
from mdm_jax.external_files import expand
from mdm_jax.keys import Stream, stream
from mdm_jax.orders.fidelity.config import ReplayConfig
from mdm_jax.policies import heuristics
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.policies.base import Policy
from mdm_jax.policies.count_schedules import AlphaCounts
from mdm_jax.runs.adaptive import check_between
from mdm_jax.runs.json_files import write_json
from mdm_jax.runs.task_choice import with_data_dir
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Task
from mdm_jax.tasks.sudoku import Sudoku

UNRANKED = (heuristics.Random, heuristics.Ancestral, heuristics.LeftToRight)
RANKED = (heuristics.TopConfidence, heuristics.TopMargin, heuristics.LowEntropy)
POLICIES: tuple[Policy, ...] = (
    *(kind(steps) for kind in UNRANKED for steps in (4, 8)),
    *(kind(steps) for kind in RANKED for steps in (4, 6, 8)),
    heuristics.TopConfidence(8, AlphaCounts()),
    *(heuristics.ConfidenceThreshold(threshold) for threshold in (0.5, 0.7, 0.9)),
    *(heuristics.Factor(factor) for factor in (0.5, 1.0)),
    *(heuristics.EntropyBound(gamma) for gamma in (0.05, 0.5, 1.5)),
)


# a few hundred updates suffice for a narrow range of prices alone
FEW_UPDATES = ReplayConfig(prices=(0.04, 4.0), price_offset=0.1, bound=None, borrowed=0)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the quickstart.

    Attributes:
      task: what to learn.
      data_dir: where the task's files are, for tasks that need some.
      train: settings of the denoiser's training; its task, data_dir and run_dir are taken from here.
      learn: settings of learning an order; its task, denoiser, run_dir and seed are taken from here.
      learned: learn an order, the last rows of the table.
      prices: of a denoiser call, one row each.
      run_dir: where everything is written; None: runs/quickstart-TASK.
      examples: prompts that every policy completes.
      batch_size: of generation.
      temperature: of the token draws.
      parallel: how a batch is spread over devices.
      seed: of everything that is random.
    """

    task: cli.AnyTask = field(default_factory=Sudoku)
    data_dir: str | None = None
    train: train_denoiser.Config = field(
        default_factory=lambda: train_denoiser.Config(steps=800, save_every=400, eval_every=400)
    )
    learn: learn_order.Config = field(
        default_factory=lambda: replace(
            learn_order.Config(), steps=300, eval_every=50, replay=FEW_UPDATES
        )
    )
    learned: bool = True
    prices: tuple[float, ...] = (1.0, 0.3, 0.1)
    run_dir: str | None = None
    examples: int = 1024
    batch_size: int = 512
    temperature: float = 1.0
    parallel: Parallel = "vmap"
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for price in self.prices:
            check_range("prices", price, 0)
            check_between("the order", price, self.learn.replay.prices)


PRESETS = {
    "default": Config(),
    "minute": replace(
        Config(),
        train=replace(Config().train, steps=200),
        learn=replace(
            Config().learn,
            steps=40,
            eval_every=20,
            heldout_rows=64,
            replay=replace(FEW_UPDATES, capacity=1024, updates=2, replayed=64),
        ),
        examples=256,
        batch_size=128,
    ),
}


def run(config: Config, policies: Sequence[Policy] = POLICIES) -> list[Row]:
    """Train, learn an order, generate with every policy, print and draw; resumes where it was."""
    directory = expand(config.run_dir or f"runs/quickstart-{config.task.name}")
    task = with_data_dir(config.task, config.data_dir)
    examples = task.examples("test", config.examples)
    sampling = SamplerConfig(temperature=config.temperature).for_task(task)
    batching = Batching(config.batch_size, config.parallel)
    check_request(examples.canvases, sampling, batching)
    learn_order.resolve(replace(config.learn, task=task))  # refused before anything is trained
    settings = replace(config.train, task=task, run_dir=str(directory), seed=config.seed)
    denoise = train_denoiser.train(settings).denoise
    if config.learned:
        policy = learn(config, task, directory, denoise)
        policies = (*policies, *(replace(policy, price=price) for price in config.prices))
    with (
        open_store(directory / COMPARISON, "comparison", task, "test", config.seed) as store,
        progress("generating", len(policies)) as advance,
    ):
        key = stream(config.seed, Stream.GENERATION)
        evaluator = Evaluator(task, examples, denoise, sampling, store, key, *batching)
        outcomes = evaluator.compare(policies, lambda one: advance(1, one.row.policy))
    rows = [outcome.row for outcome in outcomes]
    report(config, evaluator, rows, directory)
    return rows


def learn(config: Config, task: Task, directory: Path, denoise: Denoise) -> AdaptivePolicy:
    """An order learned for the denoiser of this run, kept in its own run directory inside."""
    settings = replace(
        config.learn,
        task=task,
        denoiser=str(directory),
        run_dir=str(directory / "order"),
        seed=config.seed,
    )
    return learn_order.learn(settings, denoise)[0]


def report(config: Config, evaluator: Evaluator, rows: Sequence[Row], directory: Path) -> None:
    """Print and keep the table, draw, and show a generation of the last policy."""
    print_rows(rows, f"{evaluator.task.name}: {len(evaluator.examples.canvases)} prompts")
    write_json(directory / "table.json", [asdict(row) for row in rows])
    draw_comparison(evaluator.task, rows, directory)
    play(stored_frames(evaluator, rows[-1].label), rows[-1].policy)
    print_once(f"figures: {directory / 'frontier.png'}, {directory / 'order_map.png'}")
    if config.learned:
        print_once(headline([rows[-1], *rows[:-1]]))


if __name__ == "__main__":
    cli.main(Config, run, __doc__, PRESETS)
