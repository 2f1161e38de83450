"""Evaluate a run with any policy: accuracy with interval against cost, and paired comparisons.

  python -m experiments.evaluate --run RUN policy:confidence-threshold --policy.threshold 0.9
  python -m experiments.evaluate --run RUN policy:learned --policy.run ORDER_RUN --policy.scale 1.5

Generations are stored once in samples.jsonl; a killed evaluation goes on with what is missing. Every
policy evaluated in the same directory is compared with the new one, prompt by prompt.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import jax
import numpy as np

from experiments import cli
from experiments.console import print_rows, progress, say
from experiments.policies import resolve
from experiments.runs import load_run, read_task
from mdm_jax.evals.evaluate import (
    Outcome,
    evaluate,
    label_of,
    sampler_config,
    take,
    verify_all,
)
from mdm_jax.evals.generate import Parallel, check_request
from mdm_jax.evals.intervals import mcnemar_exact, paired_difference
from mdm_jax.evals.store import SampleStore
from mdm_jax.policies import heuristic
from mdm_jax.runlog import open_run
from mdm_jax.sampling.loop import SamplerConfig
from mdm_jax.tasks.base import Examples, Task


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Settings of generation shared by evaluate, frontier and sample.

    Attributes:
      temperature: of the token draws; 0 takes the most probable token.
      top_p: draw from the most probable tokens that together have this probability.
      top_k: draw from this many of the most probable tokens; None: all.
      policy_sees_draw: policies see the distribution that tokens are drawn from (Dream).
      forbid_ids: ids that are never produced; with EOS, LLaDA's logits_eos_inf.
      late_ids: ids that come last; with EOS and the end of turn, LLaDA's confidence_eos_eot_inf.
      guidance: weight of classifier-free guidance, at two passes for a call; LLaDA's cfg_scale.
      block_length: semi-autoregressive blocks of this many positions; None: all at once.
      budget: most denoiser calls for a sequence; None: as many as there are positions.
      cut_eos: what follows the first EOS is EOS, at no cost.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int | None = None
    policy_sees_draw: bool = False
    forbid_ids: tuple[int, ...] = ()
    late_ids: tuple[int, ...] = ()
    guidance: float = 0.0
    block_length: int | None = None
    budget: int | None = None
    cut_eos: bool = True

    def config(self, task: Task) -> SamplerConfig:
        """The sampler settings for a task."""
        given = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "policy_sees_draw": self.policy_sees_draw,
            "forbid_ids": self.forbid_ids,
            "late_ids": self.late_ids,
            "guidance": self.guidance,
            "block_length": self.block_length,
        }
        if self.budget is not None:
            given["budget"] = self.budget
        if not self.cut_eos:
            given["eos_id"] = None
        return sampler_config(task, **given)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of an evaluation.

    Attributes:
      run: run directory of train_denoiser, quickstart or learn_order.
      task: what to evaluate on; by default what the run was trained on.
      data_dir: where the task's files are, when not where training found them.
      policy: which positions next; policy:NAME on the command line.
      sampling: temperature, blocks, budget.
      split: train, heldout or test.
      examples: how many prompts; None: the split's own number.
      batch_size: of generation.
      parallel: how a batch is spread over devices.
      seed: of the token draws and the policy.
      out_dir: where samples.jsonl and rows.jsonl go; None: RUN/evaluate-TASK-SPLIT-SEED.
    """

    run: str = cli.REQUIRED
    task: cli.OptionalTask = None
    data_dir: str | None = None
    policy: cli.AnyPolicy = field(default_factory=lambda: heuristic.TopConfidence(8))
    sampling: cli.Flat[Sampling] = field(default_factory=Sampling)
    split: str = "test"
    examples: int | None = None
    batch_size: int = 256
    parallel: Parallel = "vmap"
    seed: int = 0
    out_dir: str | None = None


def run(config: Config) -> Outcome:
    """Evaluate, print the row, compare with what is already in the directory."""
    task = cli.with_data_dir(config.task or read_task(config.run), config.data_dir)
    denoise, task, step = load_run(config.run, task)
    policy = resolve(config.policy, config.run, denoise, task)
    examples = task.examples(config.split, config.examples)
    settings = config.sampling.config(task)
    check_request(examples.canvases, settings, config.batch_size, config.parallel)
    name = f"evaluate-{task.name}-{config.split}-{config.seed}"
    directory = Path(config.out_dir or Path(config.run) / name)
    open_run(directory, {"task": task, "split": config.split, "seed": config.seed, "step": step})
    store = SampleStore(directory / "samples.jsonl")
    with progress("generating", len(examples.canvases)) as advance:
        outcome = evaluate(
            jax.random.key(config.seed),
            task,
            examples,
            denoise,
            policy,
            settings,
            store,
            batch_size=config.batch_size,
            parallel=config.parallel,
            on_batch=advance,
        )
    with (directory / "rows.jsonl").open("a") as file:
        file.write(json.dumps(asdict(outcome.row)) + "\n")
    print_rows([outcome.row], f"{task.name}, {config.split} split, {config.run} at update {step}")
    compare_with_store(task, examples, store, label_of(policy, settings), outcome)
    say(f"generations: {store.path}")
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
        say(
            f"against {other}: {100 * gain.mean:+.1f} points "
            f"[{100 * gain.interval.low:+.1f}, {100 * gain.interval.high:+.1f}], "
            f"P(better) {gain.probability:.3f}, McNemar p {mcnemar_exact(a, b):.3g}, "
            f"{len(rows)} prompts"
        )


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
