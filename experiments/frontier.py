"""Sweep the knob of several policies and draw accuracy against cost.

  python -m experiments.frontier --run RUN [--learned ORDER_RUN ...]
  python -m experiments.frontier --run RUN --knob steps --values 2 4 8 policy:mask-git

All settings of one policy run as a single compiled call, mapped over the knob; for those of learn_order
and learn_policy --preset per-step it is the price of a call. Writes frontier.png, table.json and
samples.jsonl, and prints for each policy the area under its frontier: the mean, over the logarithm of the
denoiser calls, of the best accuracy it reaches with no more calls than that, and its accuracy under
parallelism (AUP). With --calls or --accuracy, the setting of each policy that held-out prompts choose for
that is printed as well.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from experiments import _cli as cli
from experiments._cli.console import print_once, print_table, progress
from experiments._cli.tables import print_rows
from mdm_jax.errors import MdmError, check_range, check_seed
from mdm_jax.evals import plots
from mdm_jax.evals.evaluator import Evaluator
from mdm_jax.evals.frontier import areas_under_frontiers
from mdm_jax.evals.generate import Batching
from mdm_jax.evals.of_run import EvaluationConfig, load_evaluation
from mdm_jax.evals.parallelism import parallelism_of_rows
from mdm_jax.evals.score import Row
from mdm_jax.evals.sentences import settings_text
from mdm_jax.evals.sweeps import Sweep
from mdm_jax.evals.tuning import reached_by, setting_for
from mdm_jax.policies.base import Policy
from mdm_jax.runs.config import read_task
from mdm_jax.runs.json_files import write_json
from mdm_jax.runs.published import Loading
from mdm_jax.runs.task_choice import with_data_dir
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import full_name
from mdm_jax.tasks.checks import check_prompts
from mdm_jax.tasks.splits import MOST


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
      policy: another policy to sweep, policy:NAME on the command line.
      knob: which of its settings; that of the policy within it as base.NAME.
      values: of the knob.
      learned: run directories of learn_order, learn_variational_order or learn_policy.
      prices: of a denoiser call, for policies with a price; None: 25 over all that the run learned at.
      scales: of the other learned policies, which are drawn at temperature 1: probabilities become
        min(1, scale * probability).
      calls: mean denoiser calls, at most, for which a setting is chosen.
      accuracy: share of the prompts solved, at least, for which a setting is chosen.
      heldout_prompts: prompts that choose it.
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
    policy: cli.OptionalPolicy = None
    knob: str = "steps"
    values: tuple[float, ...] = ()
    learned: tuple[str, ...] = ()
    prices: tuple[float, ...] | None = None
    scales: tuple[float, ...] = (0.5, 0.7, 1.0, 1.5, 2.0, 4.0)
    calls: float | None = None
    accuracy: float | None = None
    heldout_prompts: int = 1024
    sampling: cli.Flat[SamplerConfig] = field(default_factory=SamplerConfig)
    loading: cli.Flat[Loading] = field(default_factory=Loading)
    split: str = "test"
    examples: int | None = None
    batch_size: int = 128
    seed: int = 0
    out_dir: str | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_range("calls", self.calls, 1)
        check_range("accuracy", self.accuracy, 0, 1)
        check_range("heldout_prompts", self.heldout_prompts, 1, MOST)
        for price in self.prices or ():
            check_range("prices", price, 0)
        if self.calls is not None and self.accuracy is not None:
            raise MdmError("give --calls or --accuracy, not both")
        if bool(self.values) != (self.policy is not None):
            raise MdmError("policy:NAME is swept over the --values of its --knob: give both")

    @property
    def chooses(self) -> bool:
        """Whether a setting of each policy is chosen on held-out prompts."""
        return self.calls is not None or self.accuracy is not None


def run(config: Config) -> list[Row]:
    """Sweep, print, draw."""
    task = with_data_dir(config.task or read_task(config.run), config.data_dir)
    batching = Batching(config.batch_size)
    loaded = load_evaluation(cli.select(EvaluationConfig, config, task=task, batching=batching))
    policies = cli.select(Sweep, config).policies(config.run, loaded.denoise, loaded.task)
    if config.chooses:
        check_prompts(task, "heldout", config.heldout_prompts)
    rows, chosen = [], []
    with loaded.open("frontier") as evaluator, progress("policies", len(policies)) as advance:
        for kind, family in policies:
            found = [replace(outcome.row, policy=kind) for outcome in evaluator.sweep(family)]
            chosen += [choose(config, evaluator, family, found)] if config.chooses else []
            rows += found
            advance(1, kind)
    print_rows(
        rows, f"{full_name(task)}, {config.split} split, {config.run} at update {loaded.step}"
    )
    if config.chooses:
        columns = ("policy", "setting", "held-out %", "calls", f"{config.split} %", "calls")
        print_table("chosen on held-out prompts", columns, chosen, texts=2)
    print_areas(rows, task.gen_length or task.length)
    write(rows, evaluator.store.path.parent)
    return rows


def choose(
    config: Config, evaluator: Evaluator, family: Sequence[Policy], rows: Sequence[Row]
) -> tuple[str, ...]:
    """The line of a policy: the setting that held-out prompts choose, and what it reaches on both splits.

    Args:
      rows: of the same settings on the prompts of the table.
    """
    prompts, batch_size = config.heldout_prompts, config.batch_size
    reached = reached_by(evaluator, family, config.seed, prompts, batch_size)
    index = setting_for(reached, calls=config.calls, accuracy=config.accuracy)
    if index is None:
        return (rows[0].policy, "none reaches it", *["-"] * 4)
    row, before = rows[index], reached[index]
    shares = f"{100 * before.accuracy:.1f}", f"{100 * row.accuracy:.1f}"
    calls = f"{before.calls:.2f}", f"{row.nfe:.2f}"
    return row.policy, settings_text(row), shares[0], calls[0], shares[1], calls[1]


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
