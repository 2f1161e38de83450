"""Learned policies against the heuristic baselines at equal numbers of denoiser calls."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mdm_jax.chunks import canvases_at_once
from mdm_jax.denoisers.base import Denoise
from mdm_jax.evals.directory import COMPARISON, open_store
from mdm_jax.evals.evaluator import Evaluator
from mdm_jax.evals.paired import PairedRow, paired_row
from mdm_jax.evals.score import Outcome, Row
from mdm_jax.evals.static_order_limit import static_order_limit
from mdm_jax.evals.tuning import reached_by
from mdm_jax.keys import Stream, stream
from mdm_jax.policies import heuristics
from mdm_jax.policies.base import Policy
from mdm_jax.policies.count_schedules import AlphaCounts
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.runs.reporter import Progress, silent
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import BUSY
from mdm_jax.tasks.base import Task

THRESHOLDS = tuple(np.linspace(0.05, 0.95, 19).round(2).tolist())
GAMMAS = tuple(np.geomspace(0.01, 30, 24).round(3).tolist())
TUNING_PROMPTS, TUNING_BATCH = 256, 64


@contextmanager
def comparison_in(
    directory: Path,
    task: Task,
    denoise: Denoise,
    sampling: SamplerConfig,
    *,
    examples: int,
    batch_size: int | None,
    seed: int,
) -> Iterator[Evaluator]:
    """The evaluation of a comparison: prompts of the test split, generations in DIRECTORY/comparison.

    No other process can open it while the block runs.

    Args:
      directory: of the run.
      denoise: what the baselines use.
      examples: number of prompts.
      batch_size: prompts completed at once; None: as many as `canvases_at_once`, at most 512.
    """
    if batch_size is None:
        sizes = task.length, task.vocabulary.pad_id, task.gen_length
        batch_size = min(canvases_at_once(*sizes), BUSY)
    with open_store(directory / COMPARISON, "comparison", task, "test", seed) as store:
        yield Evaluator(
            task=task,
            examples=task.examples("test", examples),
            denoise=denoise,
            config=sampling.for_task(task),
            store=store,
            key=stream(seed, Stream.COMPARISON),
            batch_size=min(batch_size, examples),
        )


def compare_at_equal_calls(
    evaluator: Evaluator,
    learned: Sequence[tuple[LearnedPolicy, Denoise]],
    seed: int,
    progress: Progress = silent,
) -> list[PairedRow]:
    """Learned policies, then the baselines at their mean (the whole numbers on either side) and
    largest number of denoiser calls, all on the same prompts.

    Args:
      evaluator: of the baselines.
      learned: policies of several training seeds, each with its denoiser; baselines are compared with
        the one of median accuracy.
      seed: of the tuning of thresholds and of the search for the best static order.
      progress: shows how far the comparison is.
    """
    ours = [with_denoiser(evaluator, denoise).evaluate(policy) for policy, denoise in learned]
    median = sorted(ours, key=lambda outcome: outcome.row.accuracy)[(len(ours) - 1) // 2]
    baselines = baselines_at_calls_of(ours, evaluator, seed)
    with progress("comparing", len(baselines)) as advance:
        others = evaluator.compare(baselines, lambda outcome: advance(1, outcome.row.policy))
    rows = [PairedRow(outcome.row) for outcome in ours]
    rows += [paired_row(median, outcome) for outcome in others]
    found = evaluator.store.path.with_name("limit.json")
    limit = static_order_limit(evaluator.task, learned[0][0].steps, seed, found)
    rows += [] if limit is None else [PairedRow(limit)]
    return rows


def with_denoiser(evaluator: Evaluator, denoise: Denoise) -> Evaluator:
    """The same evaluation of another denoiser."""
    if denoise is evaluator.denoise:  # whose digest is known
        return evaluator
    return replace(evaluator, denoise=denoise, denoiser=None)


def baselines_at_calls_of(
    outcomes: Sequence[Outcome], evaluator: Evaluator, seed: int
) -> list[Policy]:
    """The heuristic baselines at the mean and the largest number of calls of some outcomes."""
    nfe = float(np.mean([outcome.row.nfe for outcome in outcomes]))
    counts = step_counts(nfe, max(outcome.row.nfe_max for outcome in outcomes))
    fixed = [policy for steps in counts for policy in fixed_step_policies(steps)]
    return [*fixed, *matched_policies(evaluator, nfe, seed)]


def step_counts(mean: float, most: int) -> list[int]:
    """The whole numbers on either side of the mean (one, where it is all but whole), and the most."""
    return sorted({max(math.floor(mean + 0.05), 1), math.ceil(mean - 0.05), most})


def left_to_right_at(row: Row, most: int) -> list[heuristics.LeftToRight]:
    """Reading order in as many calls as a row, the whole numbers on either side.

    The control that every order has to be compared with: free orders can lower pass@k.
    Reference: arXiv:2601.15165.

    Args:
      most: calls that are possible: one for each position.
    """
    nfe = float(min(row.nfe, most))
    return [heuristics.LeftToRight(steps) for steps in step_counts(nfe, max(math.floor(nfe), 1))]


def fixed_step_policies(steps: int) -> tuple[Policy, ...]:
    """The baselines that take a given number of steps."""
    return (
        heuristics.Ancestral(steps),
        heuristics.TopConfidence(steps),
        heuristics.TopMargin(steps),
        heuristics.LowEntropy(steps),
        heuristics.Random(steps, AlphaCounts()),
    )


def matched_policies(evaluator: Evaluator, nfe: float, seed: int) -> list[Policy]:
    """Threshold policies at the knobs whose mean calls on held-out prompts lie next to `nfe`, on
    either side, where there are any on that side.
    """
    found = []
    for kind, knobs in (
        (heuristics.EntropyBound, GAMMAS),
        (heuristics.ConfidenceThreshold, THRESHOLDS),
    ):
        policies = [kind(knob) for knob in knobs]
        calls = mean_calls(evaluator, policies, seed)
        found += [policies[index] for index in neighbours(calls, nfe)]
    return found


def neighbours(values: Float[np.ndarray, " n"], target: float) -> list[int]:
    """The places of the largest value up to the target and of the smallest one above, if any."""
    below, above = np.flatnonzero(values <= target), np.flatnonzero(values > target)
    nearest = [below[values[below].argmax()]] if len(below) else []
    nearest += [above[values[above].argmin()]] if len(above) else []
    return sorted(map(int, nearest))


def mean_calls(
    evaluator: Evaluator, policies: Sequence[Policy], seed: int
) -> Float[np.ndarray, " policies"]:
    """Mean denoiser calls of policies of one kind on held-out prompts; nothing is stored."""
    count = min(TUNING_PROMPTS, len(evaluator.examples.canvases))
    reached = reached_by(evaluator, policies, seed, count, TUNING_BATCH)
    return np.array([one.calls for one in reached])
