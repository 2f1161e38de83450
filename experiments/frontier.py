"""Sweep the knob of several policies and draw accuracy against cost.

  python -m experiments.frontier --run RUN [--learned ORDER_RUN ...]

All settings of one policy run as a single compiled call, mapped over the knob. Writes frontier.png,
table.json and samples.jsonl, and prints for each policy the area under its frontier: the mean, over
the logarithm of the denoiser calls, of the best accuracy it reaches with no more calls than that.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import jax

from experiments import _cli as cli
from experiments._cli.console import print_once, progress
from experiments._cli.tables import print_rows
from mdm_jax.denoisers.base import Bound
from mdm_jax.errors import MdmError, check_seed
from mdm_jax.evals import plots
from mdm_jax.evals.directory import open_store
from mdm_jax.evals.evaluator import Evaluator
from mdm_jax.evals.frontier import area_under_frontier
from mdm_jax.evals.generate import Batching, check_request
from mdm_jax.evals.score import Row
from mdm_jax.external_files import expand
from mdm_jax.policies import heuristics
from mdm_jax.policies.base import Policy
from mdm_jax.runs.config import read_task
from mdm_jax.runs.denoisers import load_denoiser
from mdm_jax.runs.identity import identity, results_home
from mdm_jax.runs.json_files import write_json
from mdm_jax.runs.policy_specs import Learned
from mdm_jax.runs.published import Loading
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Task

SCHEDULED = (
    heuristics.Random,
    heuristics.Ancestral,
    heuristics.LeftToRight,
    heuristics.TopConfidence,
    heuristics.TopMargin,
    heuristics.LowEntropy,
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a sweep; an empty list leaves its policies out.

    Attributes:
      run: run directory of train_denoiser, quickstart or learn_order, or of a published checkpoint.
      task: what to evaluate on; by default what the run was trained on.
      data_dir: where the task's files are, when not where training found them.
      steps: of Random, Ancestral, LeftToRight, TopConfidence, TopMargin and LowEntropy.
      thresholds: of ConfidenceThreshold.
      factors: of Factor.
      gammas: of EntropyBound.
      learned: run directories of learn_order, whose policies are drawn at temperature 1.
      scales: of those: probabilities become min(1, scale * probability).
      sampling: temperature, blocks, budget.
      loading: how a published checkpoint is put on devices.
      split: train, heldout or test.
      examples: how many prompts; None: the split's own number.
      batch_size: prompts completed at once, under all settings of a policy.
      seed: of the token draws and the policy.
      out_dir: where everything is written; None: RUN/frontier-TASK-SPLIT-SEED.
    """

    run: cli.RunDir = cli.REQUIRED
    task: cli.OptionalTask = None
    data_dir: str | None = None
    steps: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12)
    thresholds: tuple[float, ...] = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
    factors: tuple[float, ...] = (0.25, 0.5, 1.0, 1.5, 2.0)
    gammas: tuple[float, ...] = (0.01, 0.1, 0.5, 1.0, 2.0, 4.0)
    learned: tuple[str, ...] = ()
    scales: tuple[float, ...] = (0.5, 0.7, 1.0, 1.5, 2.0, 4.0)
    sampling: cli.Flat[SamplerConfig] = field(default_factory=SamplerConfig)
    loading: cli.Flat[Loading] = field(default_factory=Loading)
    split: str = "test"
    examples: int | None = None
    batch_size: int = 128
    seed: int = 0
    out_dir: str | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)


def families(config: Config, denoise: Bound, task: Task) -> Iterator[tuple[str, list[Policy]]]:
    """The settings to try, one list per policy, with its name."""
    knobs: list[tuple[Callable[..., Policy], Sequence]] = [
        *((kind, config.steps) for kind in SCHEDULED),
        (heuristics.ConfidenceThreshold, config.thresholds),
        (heuristics.Factor, config.factors),
        (heuristics.EntropyBound, config.gammas),
    ]
    for kind, values in knobs:
        if values:
            yield kind.__name__, [kind(value) for value in values]
    runs = list(dict.fromkeys(config.learned))
    short = [Path(run).name for run in runs]
    names = short if len(set(short)) == len(short) else runs
    for run, name in zip(runs, names, strict=True):
        policy = Learned(policy_temperature=1.0).load(run, denoise, task)
        if config.scales:
            yield f"LearnedPolicy, {name}", [replace(policy, scale=x) for x in config.scales]


def run(config: Config) -> list[Row]:
    """Sweep, print, draw."""
    task = cli.with_data_dir(config.task or read_task(config.run), config.data_dir)
    denoise, task, step = load_denoiser(config.run, task, config.loading)
    examples, sampling = (
        task.examples(config.split, config.examples),
        config.sampling.for_task(task),
    )
    check_request(examples.canvases, sampling, Batching(config.batch_size))
    policies = list(families(config, denoise, task))
    if not policies:
        raise MdmError(
            "nothing to sweep: give --steps, --thresholds, --factors, --gammas or --learned"
        )
    name = f"frontier-{task.name}-{config.split}-{config.seed}"
    directory = expand(config.out_dir or results_home(config.run) / name)
    weights = {"step": step} | identity(config.run, config.loading)
    key, rows = jax.random.key(config.seed), []
    with (
        open_store(directory, "frontier", task, config.split, config.seed, weights) as store,
        progress("policies", len(policies)) as advance,
    ):
        evaluator = Evaluator(task, examples, denoise, sampling, store, key, config.batch_size)
        for kind, family in policies:
            rows += [replace(outcome.row, policy=kind) for outcome in evaluator.sweep(family)]
            advance(1, kind)
    print_rows(rows, f"{task.name}, {config.split} split, {config.run} at update {step}")
    print_areas(rows, task.gen_length or task.length)
    write(rows, directory)
    return rows


def write(rows: Sequence[Row], directory: Path) -> None:
    """The rows as table.json and as a figure."""
    write_json(directory / "table.json", [asdict(row) for row in rows])
    plots.save(plots.frontier_figure(rows), directory / "frontier.png")
    print_once(f"figure: {directory / 'frontier.png'}")


def print_areas(rows: Sequence[Row], nfe_max: int) -> None:
    """Area under the frontier of each policy, best first."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        points.setdefault(row.policy, []).append((row.nfe, row.accuracy))
    areas = {name: area_under_frontier(found, nfe_max) for name, found in points.items()}
    print_once(f"area under the frontier, 1 to {nfe_max} denoiser calls:")
    for name, area in sorted(areas.items(), key=lambda item: -item[1]):
        print_once(f"  {area:.3f}  {name}")


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
