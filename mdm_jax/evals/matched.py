"""Learned policies against every basic one at the same number of denoiser calls, as a table."""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from experiments._cli.console import console, print_once, progress, show_settings
from mdm_jax.denoisers.base import Denoise
from mdm_jax.evals.evaluate import Outcome, Row, evaluate
from mdm_jax.evals.generate import generate_sweep
from mdm_jax.evals.intervals import beta_interval, paired_difference
from mdm_jax.evals.store import SampleStore
from mdm_jax.orders.search import SearchConfig, exact_nll, search_orders, success_rate
from mdm_jax.orders.variational.elbo import OrderModel
from mdm_jax.orders.variational.elbo import Sequence as Clean
from mdm_jax.orders.variational.forms.max_normalised import MaxNormalised
from mdm_jax.policies import heuristics
from mdm_jax.policies.base import Policy
from mdm_jax.policies.count_schedules import AlphaCounts
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.policies.switch import as_switch
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Examples, Task
from mdm_jax.tasks.sudoku.task import Sudoku

THRESHOLDS = tuple(np.linspace(0.05, 0.95, 19).round(2).tolist())
GAMMAS = tuple(np.geomspace(0.01, 30, 24).round(3).tolist())
LIMIT = "BestStaticOrder"
TUNING_PROMPTS = 256
LIMIT_SEARCH = SearchConfig(proposals=2000, chains=4, start_temperature=0.2, end_temperature=0.002)


class PairedRow(NamedTuple):
    """One policy, and by how much the learned one is better on the same prompts."""

    row: Row
    gain: float | None = None  # mean difference of accuracies, learned minus this one
    low: float | None = None  # 95 % interval
    high: float | None = None
    better: float | None = None  # P(learned is better)


def fixed_step_policies(steps: int) -> tuple[Policy, ...]:
    """The basic policies that take a given number of steps."""
    return (
        heuristics.Ancestral(steps),
        heuristics.TopConfidence(steps),
        heuristics.TopMargin(steps),
        heuristics.LowEntropy(steps),
        heuristics.Random(steps, AlphaCounts()),
    )


def compare_orders(
    task: Task,
    learned: Sequence[tuple[LearnedPolicy, Denoise]],
    denoise: Denoise,
    directory: Path,
    *,
    examples: int,
    batch_size: int,
    temperature: float,
    seed: int,
    block_length: int | None = None,
) -> list[PairedRow]:
    """Learned policies, then the basic ones at the learned mean (both whole numbers beside it) and
    maximum of denoiser calls.

    Everyone completes the same prompts. Threshold policies get the knobs whose mean calls on other
    prompts lie next to the learned mean. Generations are stored in samples.jsonl, so that a killed
    comparison goes on.

    Args:
      learned: policies of several training seeds, each with its denoiser; the one of median accuracy
        is what the basic policies are compared with.
      denoise: what the basic policies use.
    """
    prompts = task.examples("test", examples)
    settings = SamplerConfig(temperature=temperature, block_length=block_length).for_task(task)
    store = SampleStore(directory / "samples.jsonl")

    def run(policy: Policy, denoise: Denoise) -> Outcome:
        key, size = jax.random.fold_in(jax.random.key(seed), 8), min(batch_size, examples)
        return evaluate(key, task, prompts, denoise, policy, settings, store, batch_size=size)

    ours = [run(*one) for one in learned]
    middle = sorted(ours, key=lambda outcome: outcome.row.accuracy)[(len(ours) - 1) // 2]
    nfe = float(np.mean([outcome.row.nfe for outcome in ours]))
    counts = step_counts(nfe, max(outcome.row.nfe_max for outcome in ours))
    tuning = task.examples("heldout", min(TUNING_PROMPTS, examples))
    matched = matched_policies(tuning, denoise, settings, nfe, seed, batch_size)
    policies = (*(p for steps in counts for p in fixed_step_policies(steps)), *matched)
    found = []
    with progress("comparing", len(policies)) as advance:
        for policy in as_switch(policies):
            found.append(paired_row(middle, run(policy, denoise)))
            advance(1, found[-1].row.policy)
    rows = [*(PairedRow(outcome.row) for outcome in ours), *found]
    steps = learned[0][0].steps
    if steps < (task.gen_length or task.length) and (limited := limit_row(task, steps, seed)):
        rows.append(PairedRow(limited))
    save_versus(rows, directory / "table.json")
    return rows


def step_counts(mean: float, most: int) -> list[int]:
    """The whole numbers on either side of the mean (one, where it all but is one), and the most."""
    return sorted({max(math.floor(mean + 0.05), 1), math.ceil(mean - 0.05), most})


def headline(rows: Sequence[Row]) -> str:
    """The learned policy, the first row, against the best that costs no more."""
    ours, *others = rows
    cheap = [row for row in others if row.nfe <= ours.nfe + 0.05]
    cheap = [row for row in cheap if row.policy not in (ours.policy, LIMIT)]
    text = f"learned policy: {100 * ours.accuracy:.1f} % in {ours.nfe:.2f} denoiser calls"
    if not cheap:
        return text
    best = max(cheap, key=lambda row: row.accuracy)
    return (
        f"{text}; best basic policy in no more: {best.policy} {show_settings(best)}, "
        f"{100 * best.accuracy:.1f} % in {best.nfe:.2f}"
    )


def save_versus(rows: Sequence[PairedRow], path: Path) -> None:
    """The rows as JSON."""
    shown = [paired_row._asdict() | {"row": asdict(paired_row.row)} for paired_row in rows]
    path.write_text(json.dumps(shown, indent=2))


def paired_row(ours: Outcome, theirs: Outcome) -> PairedRow:
    """Paired comparison on the same prompts."""
    both, a, b, neither = (
        int(np.sum(x & y))
        for x in (ours.correct, ~ours.correct)
        for y in (theirs.correct, ~theirs.correct)
    )
    gain = paired_difference(both, a, b, neither)
    return PairedRow(theirs.row, gain.mean, gain.interval.low, gain.interval.high, gain.probability)


def matched_policies(
    prompts: Examples,
    denoise: Denoise,
    settings: SamplerConfig,
    nfe: float,
    seed: int,
    batch_size: int,
) -> list[Policy]:
    """Threshold policies at the knobs whose mean calls on `prompts` lie next to `nfe`, on either side."""
    families: tuple[tuple[Callable[[float], Policy], tuple[float, ...]], ...] = (
        (heuristics.EntropyBound, GAMMAS),
        (heuristics.ConfidenceThreshold, THRESHOLDS),
    )
    found = []
    for kind, knobs in families:
        policies = [kind(knob) for knob in knobs]
        calls = mean_calls(prompts, denoise, policies, settings, seed, batch_size)
        below, above = np.where(calls <= nfe, calls, -np.inf), np.where(calls > nfe, calls, np.inf)
        found += [policies[best] for best in {int(below.argmax()), int(above.argmin())}]
    return found


@cache
def limit_row(task: Task, budget: int, seed: int) -> Row | None:
    """The best static order that a search finds under exact conditionals; None where the task cannot
    be listed. An order that adapts to the prompt may pass it.
    """
    if not isinstance(task, Sudoku) or task.side != 4:
        return None
    oracle, vocabulary = task.oracle(), task.vocabulary
    model = OrderModel(MaxNormalised(), budget, vocabulary.mask_id, vocabulary.pad_id)
    seen, unseen = (_with_prompts(task, 10**14 + seed + i, 288) for i in (0, 1))
    k_search = jax.random.fold_in(jax.random.key(seed), 10)
    exact = exact_nll(seen, oracle)
    orders = search_orders(k_search, seen, oracle, model, LIMIT_SEARCH, exact=exact)
    rate_of = jax.jit(success_rate, static_argnames="model")
    rates = [float(rate_of(order, seen, oracle, model=model)) for order in orders]
    rate = float(rate_of(orders[int(np.argmax(rates))], unseen, oracle, model=model))
    total = len(unseen.tokens)
    interval = beta_interval(round(rate * total), total)
    return Row(
        policy=LIMIT,
        settings={"steps": budget, "conditionals": "exact"},
        correct=round(rate * total),
        total=total,
        accuracy=rate,
        low=interval.low,
        high=interval.high,
        nfe=float(budget),
        nfe_min=budget,
        nfe_max=budget,
        passes=float(budget),
        sequences_per_second=None,
    )


def _with_prompts(task: Sudoku, seed: int, count: int) -> Clean:
    """Clean sequences of the task with their prompts shown."""
    return Clean(*map(jnp.asarray, task.with_prompts(task.train_batch(seed, 0, count), seed)))


def mean_calls(
    prompts: Examples,
    denoise: Denoise,
    policies: list[Policy],
    settings: SamplerConfig,
    seed: int,
    batch_size: int,
) -> np.ndarray:
    """Mean denoiser calls of each policy, [policies]."""
    key = jax.random.fold_in(jax.random.key(seed), 9)
    size = min(64, batch_size, len(prompts.canvases))
    batches = generate_sweep(key, prompts.canvases, denoise, policies, settings, batch_size=size)
    calls = [[one.rollout.nfe for one in batch] for batch in batches]
    return np.array([np.concatenate(column).mean() for column in zip(*calls, strict=True)])


def print_versus(rows: Sequence[PairedRow], title: str) -> None:
    """The table, the learned order first."""
    table = Table(title=title, title_justify="left")
    for name in ("policy", "settings"):
        table.add_column(name, no_wrap=name == "policy")
    for name in ("accuracy %", "95 % interval", "NFE [min, max]", "learned is better by", "P"):
        table.add_column(name, justify="right", no_wrap=True)
    for row, gain, low, high, better in rows:
        table.add_row(
            row.policy,
            show_settings(row),
            f"{100 * row.accuracy:.1f}",
            f"{100 * row.low:.1f} - {100 * row.high:.1f}",
            f"{row.nfe:.2f} [{row.nfe_min}, {row.nfe_max}]",
            "" if gain is None else f"{100 * gain:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]",
            "" if better is None else f"{better:.3f}",
        )
    if jax.process_index() == 0:
        console.print(table)


def print_seeds(rows: Sequence[PairedRow]) -> None:
    """How far the training seeds are apart."""
    found = [v.row for v in rows if v.row.policy == "LearnedPolicy"]
    rates = sorted(100 * row.accuracy for row in found)
    shown = ", ".join(f"{100 * row.accuracy:.1f} in {row.nfe:.2f}" for row in found)
    print_once(
        f"learned over {len(found)} seeds: median {statistics.median(rates):.1f} % ({shown} calls)"
    )
