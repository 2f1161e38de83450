"""Evaluate a denoiser with any policy: accuracy with interval against cost, and paired comparisons.

  python -m experiments.evaluate --run RUN policy:confidence-threshold --policy.threshold 0.9
  python -m experiments.evaluate --denoiser DIR --task gsm8k --data_dir DATA --block_length 32
  python -m experiments.evaluate --run RUN policy:learned --policy.run ORDER_RUN --policy.scale 1.5

Generations are stored once, in samples.jsonl; a killed evaluation resumes with what is missing. Every
policy evaluated in the same directory is compared with the new one on the same prompts. With --draws
every prompt is completed several times, for pass@k; --left_to_right adds reading order at equal calls.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import ClassVar

import jax

from experiments import _cli as cli
from experiments._cli.console import print_once, progress
from experiments._cli.tables import print_rows
from mdm_jax.errors import check_range, check_seed
from mdm_jax.evals.evaluator import Evaluator
from mdm_jax.evals.generate import Batching, Parallel
from mdm_jax.evals.matched import left_to_right_at
from mdm_jax.evals.of_run import EvaluationConfig, load_evaluation
from mdm_jax.evals.paired import compare_with_stored
from mdm_jax.evals.pass_at_k import PassAtK, pass_at_each
from mdm_jax.evals.score import Outcome, keep_row
from mdm_jax.evals.sentences import against_stored
from mdm_jax.policies import heuristics
from mdm_jax.policies.base import Policy
from mdm_jax.profiling.report import measure_speed
from mdm_jax.runs.config import read_task
from mdm_jax.runs.policy_specs import resolve
from mdm_jax.runs.published import Loading, is_published
from mdm_jax.runs.task_choice import with_data_dir
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import HasCeiling, full_name


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of an evaluation.

    Attributes:
      run: run directory of a training (train_denoiser, quickstart, learn_*), or of a published
        checkpoint.
      task: what to evaluate on; by default what the run was trained on.
      data_dir: where the task's files are, when not where training found them.
      policy: which positions next; policy:NAME on the command line.
      sampling: temperature, blocks, budget.
      split: train, heldout or test.
      examples: how many prompts; None: the split's own number.
      batch_size: of generation; None: 256, or 8 for a published checkpoint.
      parallel: how a batch is spread over devices.
      loading: how a published checkpoint is put on devices.
      seed: of the token draws and the policy.
      draws: generations of every prompt, each with a key of its own; policies are compared by the first.
      pass_at: numbers k of generations, of which one has to be right; at most `draws`.
      left_to_right: evaluate reading order as well, in as many calls as the policy.
      out_dir: where samples.jsonl and rows.jsonl go; None: RUN/evaluate-TASK-SPLIT-SEED, or
        runs/NAME/evaluate-... for a published checkpoint.
    """

    sampler_flags: ClassVar[bool] = True  # LLaDA's and Dream's are understood too
    run: cli.RunDir = cli.REQUIRED
    task: cli.OptionalTask = None
    data_dir: str | None = None
    policy: cli.AnyPolicy = field(default_factory=lambda: heuristics.TopConfidence(8))
    sampling: cli.Flat[SamplerConfig] = field(default_factory=SamplerConfig)
    split: str = "test"
    examples: int | None = None
    batch_size: int | None = None
    parallel: Parallel = "vmap"
    loading: cli.Flat[Loading] = field(default_factory=Loading)
    seed: int = 0
    draws: int = 1
    pass_at: tuple[int, ...] = ()
    left_to_right: bool = False
    out_dir: str | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_range("draws", self.draws, 1)
        for k in self.pass_at:
            check_range("pass_at", k, 1, self.draws)


def run(config: Config) -> Outcome | None:
    """Evaluate, print the row, compare with what is already in the directory.

    Returns:
      None where programs were generated that may not be run.
    """
    with prepare(config) as (evaluator, policy, step):
        complete(config, evaluator, policy)
        print_once(f"generations: {evaluator.store.path}")
        if not getattr(evaluator.task, "can_verify", True):
            print_once("not scored: generated programs are run only when asked, by --task.execute")
            return None
        outcome = score(config, evaluator, policy, step)
        most = evaluator.config.gen_length or evaluator.task.length
        for control in left_to_right_at(outcome.row, most) if config.left_to_right else ():
            complete(config, evaluator, control)
            score(config, evaluator, control, step)
        if isinstance(evaluator.task, HasCeiling):
            print_once(evaluator.task.ceiling(config.split))
        for found in compare_with_stored(evaluator, outcome):
            print_once(against_stored(found))
    return outcome


def complete(config: Config, evaluator: Evaluator, policy: Policy) -> None:
    """All draws of all prompts that the store lacks."""
    draws = evaluator.draws(config.draws)
    done = sum(len(draw.done(policy)) for draw in draws)
    total = config.draws * len(evaluator.examples.canvases)
    with progress("generating", total, done) as advance:
        for draw in draws:
            draw.generate(policy, advance)


def score(config: Config, evaluator: Evaluator, policy: Policy, step: int) -> Outcome:
    """The outcome of the first draw, printed and kept with pass@k of all of them."""
    outcomes = [draw.score(policy) for draw in evaluator.draws(config.draws)]
    found = pass_at_each([outcome.correct for outcome in outcomes], config.pass_at)
    report(config, evaluator, outcomes[0], step, found)
    for k, value, low, high in found:
        interval = f"[{100 * low:.1f}, {100 * high:.1f}]"
        print_once(f"pass@{k} of {config.draws} draws: {100 * value:.1f} % {interval}")
    return outcomes[0]


@contextmanager
def prepare(config: Config) -> Iterator[tuple[Evaluator, Policy, int]]:
    """The evaluation, the policy, and the denoiser's number of updates.

    What cannot be completed is refused before the denoiser is loaded.
    """
    task = with_data_dir(config.task or read_task(config.run), config.data_dir)
    default = 8 if is_published(config.run) else 256
    batch_size = default if config.batch_size is None else config.batch_size
    batching = Batching(batch_size, config.parallel)
    loaded = load_evaluation(cli.select(EvaluationConfig, config, task=task, batching=batching))
    policy = resolve(config.policy, config.run, loaded.denoise, loaded.task)
    with loaded.open("evaluate") as evaluator:
        yield evaluator, policy, loaded.step


def report(
    config: Config, evaluator: Evaluator, outcome: Outcome, step: int, found: list[PassAtK]
) -> None:
    """Print the row, and the speed of a published checkpoint; keep both in rows.jsonl."""
    title, row = (
        f"{full_name(evaluator.task)}, {config.split} split, {config.run}",
        asdict(outcome.row),
    )
    if is_published(config.run):
        print_rows([outcome.row], title)
        devices = config.loading.tensor if config.parallel == "vmap" else jax.device_count()
        speed = measure_speed(evaluator, evaluator.store.read(outcome.row.label), devices)
        print_once(speed.summary())
        row |= speed.throughput._asdict() | {"share_of_peak": speed.share_of_peak}
    else:
        print_rows([outcome.row], f"{title} at update {step}")
    row |= {"pass_at": [one._asdict() for one in found]} if found else {}
    keep_row(evaluator.store.path.parent / "rows.jsonl", row)


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
