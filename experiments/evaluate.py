"""Evaluate a denoiser with any policy: accuracy with interval against cost, and paired comparisons.

  python -m experiments.evaluate --run RUN policy:confidence-threshold --policy.threshold 0.9
  python -m experiments.evaluate --denoiser DIR --task gsm8k --data_dir DATA --block_length 32
  python -m experiments.evaluate --run RUN policy:learned --policy.run ORDER_RUN --policy.scale 1.5

Generations are stored once in samples.jsonl; a killed evaluation goes on with what is missing. Every
policy evaluated in the same directory is compared with the new one, prompt by prompt.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

import jax
import numpy as np

from experiments import _cli as cli
from experiments._cli.console import print_once, print_rows, progress
from experiments._cli.policies import resolve
from mdm_jax.denoisers.base import Denoise
from mdm_jax.evals.evaluate import (
    Outcome,
    done_before,
    generate_missing,
    label_of,
    score,
    take,
    verify_all,
)
from mdm_jax.evals.generate import Parallel, check_request
from mdm_jax.evals.intervals import mcnemar_exact, paired_difference
from mdm_jax.evals.store import SampleStore
from mdm_jax.policies import heuristics
from mdm_jax.policies.base import Policy
from mdm_jax.profiling.report import report_speed
from mdm_jax.runs.config import read_task
from mdm_jax.runs.denoisers import load_denoiser
from mdm_jax.runs.directory import open_run
from mdm_jax.runs.identity import identity, results_home
from mdm_jax.runs.published import Loading, is_published
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Examples, Task


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of an evaluation.

    Attributes:
      run: run directory of train_denoiser, quickstart or learn_order, or of a published checkpoint.
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
    out_dir: str | None = None


class Asked(NamedTuple):
    """Everything that an evaluation needs, ready to run."""

    task: Task
    examples: Examples
    denoise: Denoise
    policy: Policy
    settings: SamplerConfig
    step: int  # updates of the denoiser
    batch_size: int


def run(config: Config) -> Outcome | None:
    """Evaluate, print the row, compare with what is already in the directory.

    Returns:
      None where answers were generated that may not be judged.
    """
    asked = prepare(config)
    store = SampleStore(open_directory(config, asked) / "samples.jsonl")
    generate_all(config, asked, store)
    print_once(f"generations: {store.path}")
    if not getattr(asked.task, "can_verify", True):
        print_once("not judged: generated programs are run only when asked, by --task.execute")
        return None
    return judge(config, asked, store)


def prepare(config: Config) -> Asked:
    """Load what is asked and who is asked; what cannot be completed is refused first."""
    task = cli.with_data_dir(config.task or read_task(config.run), config.data_dir)
    examples = task.examples(config.split, config.examples)
    settings = config.sampling.for_task(task)
    usual = 8 if is_published(config.run) else 256
    batch_size = usual if config.batch_size is None else config.batch_size
    check_request(examples.canvases, settings, batch_size, config.parallel)
    denoise, task, step = load_denoiser(config.run, task, config.loading)
    policy = resolve(config.policy, config.run, denoise, task)
    return Asked(task, examples, denoise, policy, settings, step, batch_size)


def open_directory(config: Config, asked: Asked) -> Path:
    """Where this evaluation is kept; it may hold other policies' generations, of the same weights."""
    name = f"evaluate-{asked.task.name}-{config.split}-{config.seed}"
    directory = Path(config.out_dir or results_home(config.run) / name)
    same = {"task": asked.task, "split": config.split, "seed": config.seed, "step": asked.step}
    same |= identity(config.run, config.loading)
    open_run(directory, "evaluate", same, ignore=("task.checkpoint", "task.execute", "task.limits"))
    return directory


def generate_all(config: Config, asked: Asked, store: SampleStore) -> None:
    """Complete the prompts that the store lacks, telling how fast."""
    done = len(done_before(asked.examples, asked.policy, asked.settings, store))
    with progress("generating", len(asked.examples.canvases), done) as advance:
        generate_missing(
            jax.random.key(config.seed),
            asked.task,
            asked.examples,
            asked.denoise,
            asked.policy,
            asked.settings,
            store,
            batch_size=asked.batch_size,
            parallel=config.parallel,
            on_batch=advance,
        )


def judge(config: Config, asked: Asked, store: SampleStore) -> Outcome:
    """Score the store, print and keep the row, compare with the other policies."""
    task, examples, label = asked.task, asked.examples, label_of(asked.policy, asked.settings)
    found = store.read(label)
    outcome = score(task, examples, asked.policy, asked.settings, found)
    title = f"{task.name}, {config.split} split, {config.run}"
    measured = asdict(outcome.row)
    if is_published(config.run):
        print_rows([outcome.row], title)
        devices = config.loading.tensor if config.parallel == "vmap" else jax.device_count()
        measured |= report_speed(found, examples, asked.denoise, task, asked.settings, devices)
    else:
        print_rows([outcome.row], f"{title} at update {asked.step}")
    with (store.path.parent / "rows.jsonl").open("a") as file:
        file.write(json.dumps(measured) + "\n")
    compare_with_store(task, examples, store, label, outcome)
    return outcome


def compare_with_store(
    task: Task, examples: Examples, store: SampleStore, label: str, outcome: Outcome
) -> None:
    """Paired comparison with every other policy in the store, on the prompts both completed."""
    for other, found in store.read_all().items():
        here = found.index < len(examples.canvases)
        if other == label or here.sum() < 2:
            continue
        rows = found.index[here]
        theirs = verify_all(task, found.tokens[here], take(examples.references, rows))
        ours = outcome.correct[rows]
        both, a, b, neither = [int(np.sum(x & y)) for x in (ours, ~ours) for y in (theirs, ~theirs)]
        gain = paired_difference(both, a, b, neither)
        print_once(
            f"against {other}: {100 * gain.mean:+.1f} points "
            f"[{100 * gain.interval.low:+.1f}, {100 * gain.interval.high:+.1f}], "
            f"P(better) {gain.probability:.3f}, McNemar p {mcnemar_exact(a, b):.3g}, "
            f"{len(rows)} prompts"
        )


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
