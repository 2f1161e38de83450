"""Sweep the knob of several policies and draw accuracy against cost.

  python -m experiments.frontier --run RUN [--learned ORDER_RUN ...]

All settings of one policy run as a single compiled call, mapped over the knob. Writes frontier.png,
table.json and samples.jsonl, and prints for each policy the area under its frontier: the mean, over
the logarithm of the denoiser calls, of the best accuracy it reaches with no more calls than that, and
its accuracy under parallelism (AUP).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from experiments import _cli as cli
from experiments._cli.console import print_once, progress
from experiments._cli.tables import print_rows
from mdm_jax.errors import check_seed
from mdm_jax.evals import plots
from mdm_jax.evals.frontier import areas_under_frontiers
from mdm_jax.evals.generate import Batching
from mdm_jax.evals.of_run import EvaluationConfig, load_evaluation
from mdm_jax.evals.parallelism import parallelism_of_rows
from mdm_jax.evals.score import Row
from mdm_jax.evals.sweeps import Sweep
from mdm_jax.runs.config import read_task
from mdm_jax.runs.json_files import write_json
from mdm_jax.runs.published import Loading
from mdm_jax.runs.task_choice import with_data_dir
from mdm_jax.sampling.config import SamplerConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a sweep; an empty list leaves its policies out.

    Attributes:
      run: run directory of a training (train_denoiser, quickstart, learn_*), or of a published
        checkpoint.
      task: what to evaluate on; by default what the run was trained on.
      data_dir: where the task's files are, when not where training found them.
      steps: of Random, Ancestral, LeftToRight, TopConfidence, TopMargin and LowEntropy.
      thresholds: of ConfidenceThreshold.
      factors: of Factor.
      gammas: of EntropyBound.
      learned: run directories of learn_variational_order, whose policies are drawn at temperature 1.
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


def run(config: Config) -> list[Row]:
    """Sweep, print, draw."""
    task = with_data_dir(config.task or read_task(config.run), config.data_dir)
    batching = Batching(config.batch_size)
    loaded = load_evaluation(cli.select(EvaluationConfig, config, task=task, batching=batching))
    policies = cli.select(Sweep, config).policies(loaded.denoise, loaded.task)
    rows = []
    with loaded.open("frontier") as evaluator, progress("policies", len(policies)) as advance:
        for kind, family in policies:
            rows += [replace(outcome.row, policy=kind) for outcome in evaluator.sweep(family)]
            advance(1, kind)
    print_rows(rows, f"{task.name}, {config.split} split, {config.run} at update {loaded.step}")
    print_areas(rows, task.gen_length or task.length)
    write(rows, evaluator.store.path.parent)
    return rows


def write(rows: Sequence[Row], directory: Path) -> None:
    """The rows as table.json and as a figure."""
    write_json(directory / "table.json", [asdict(row) for row in rows])
    plots.save(plots.frontier_figure(rows), directory / "frontier.png")
    print_once(f"figure: {directory / 'frontier.png'}")


def print_areas(rows: Sequence[Row], nfe_max: int) -> None:
    """Area under the frontier of each policy, and its accuracy under parallelism, best first."""
    print_once(f"area under the frontier, 1 to {nfe_max} denoiser calls:")
    for name, area in areas_under_frontiers(rows, nfe_max).items():
        print_once(f"  {area:.3f}  {name}")
    print_once("AUP, accuracy under parallelism (per cent x tokens per call):")
    for name, area in parallelism_of_rows(rows).items():
        print_once(f"  {area:.1f}  {name}")


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
