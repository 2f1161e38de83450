"""The figures of a run that learned an order or a policy: how it learned, which order, what cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from mdm_jax.evals import plots
from mdm_jax.evals.directory import COMPARISON
from mdm_jax.evals.paired import PairedRow
from mdm_jax.evals.price_frontier import Frontiers
from mdm_jax.evals.priorities import example_priorities
from mdm_jax.evals.score import Outcome, Row
from mdm_jax.evals.store import SAMPLES, Generations, SampleStore
from mdm_jax.runs.metrics import read_metrics
from mdm_jax.runs.orders import LearnedOrder
from mdm_jax.tasks.base import Task

ORDER_PANELS = {
    "nats per sequence": ("nelbo", "token_nll"),
    "KL(posterior || policy), nats": ("kl",),
    "entropy of the posterior, nats": ("posterior_entropy",),
    "steps of a sequence": ("steps_used",),
}
POLICY_PANELS = {
    "reward": ("reward",),
    "accuracy of the rollouts": ("accuracy",),
    "denoiser calls": ("nfe",),
    "entropy of a step's decision, nats": ("entropy",),
}
PRICE_PANELS = {
    "held-out nats lost": ("heldout_lost_nats",),
    "held-out denoiser calls": ("heldout_calls",),
    "errors of the critic": ("nats_error", "calls_error"),
    "entropy of a step's decision, nats": ("entropy",),
}
REWARD_PRICE_PANELS = {
    "held-out reward": ("heldout_reward",),
    "held-out accuracy": ("heldout_accuracy",),
    "held-out denoiser calls": ("heldout_calls",),
    "entropy of a step's decision, nats": ("entropy",),
}
PROMPTS_SHOWN = 8
ADAPTIVE = ("EntropyBound", "ConfidenceThreshold")
Steps = Int[np.ndarray, "n window"]


def draw_order_run(
    task: Task,
    learned: LearnedOrder,
    rows: Sequence[PairedRow],
    directory: Path,
    temperature: float,
) -> None:
    """Write learning.png, order_map.png, priorities.png and steps.png.

    Args:
      rows: of the table, the learned policy first; those with stored generations are shown.
      directory: the run's.
      temperature: of the posterior.
    """
    table, stored = _stored(rows, directory)
    grid, drawn = grid_of(task), table[0].settings["temperature"]
    figures = {
        "learning": plots.training_figure(read_metrics(directory), ORDER_PANELS),
        "order_map": plots.order_map_figure(order_maps(table, stored), grid),
        "priorities": plots.priorities_figure(
            *example_priorities(task, learned, temperature, drawn), grid
        ),
        "steps": plots.calls_figure(call_counts(table, stored)),
    }
    for name, figure in figures.items():
        plots.save(figure, directory / f"{name}.png")


def draw_policy_run(task: Task, rows: Sequence[PairedRow], directory: Path) -> None:
    """Write learning.png, frontier.png and order_map.png of a policy learned from rewards.

    Args:
      rows: of the table, the learned policy first.
      directory: the run's.
    """
    table, stored = _stored(rows, directory)
    figures = {
        "learning": plots.training_figure(read_metrics(directory), POLICY_PANELS),
        "frontier": plots.frontier_figure(table),
        "order_map": plots.order_map_figure(order_maps(table, stored), grid_of(task)),
    }
    for name, figure in figures.items():
        plots.save(figure, directory / f"{name}.png")


def draw_price_run(
    task: Task,
    found: Frontiers,
    directory: Path,
    panels: Mapping[str, Sequence[str]] = PRICE_PANELS,
) -> None:
    """Write learning.png, frontier.png and order_map.png of a policy with a price.

    The order map shows the prompts of the test one by one, since the order depends on them.

    Args:
      directory: the run's.
      panels: of the figure of learning.
    """
    stored = SampleStore(directory / COMPARISON / SAMPLES).read_all()
    figures = {
        "learning": plots.training_figure(read_metrics(directory), panels),
        "frontier": plots.frontier_figure(found.rows),
        "order_map": plots.order_map_figure(
            prompt_maps([one.row for one in found.learned], stored), grid_of(task)
        ),
    }
    for name, figure in figures.items():
        plots.save(figure, directory / f"{name}.png")


def draw_rewarded_price_run(task: Task, found: Frontiers, directory: Path) -> None:
    """`draw_price_run` of a policy that learned from rewards."""
    draw_price_run(task, found, directory, REWARD_PRICE_PANELS)


def draw_price_seeds(
    found: Mapping[str, Frontiers], others: Sequence[Outcome], directory: Path
) -> None:
    """Write frontier.png: a line for each policy, by its name, the heuristics, and other policies."""
    curve_of = {one.row.label: name for name, each in found.items() for one in each.learned}
    first = next(iter(found.values()))
    learned = [one.row for each in found.values() for one in each.learned]
    rows = [*learned, *(one.row for one in (*first.baselines, *others))]
    figure = plots.frontier_figure(rows, curve=lambda row: curve_of.get(row.label, ""))
    plots.save(figure, directory / "frontier.png")


def prompt_maps(rows: Sequence[Row], stored: Mapping[str, Generations]) -> dict[str, Steps]:
    """Steps of reveal on the first prompts, at the price whose accuracy is nearest to 95 %."""
    row = min(rows, key=lambda row: abs(row.accuracy - 0.95))
    found = stored[row.label]
    return {
        f"prompt {number}, {found.nfe[number]} calls": found.revealed_at[number : number + 1]
        for number in range(min(PROMPTS_SHOWN, len(found.nfe)))
    }


def draw_comparison(task: Task, rows: Sequence[Row], directory: Path) -> None:
    """Write frontier.png and order_map.png of a run's comparison.

    The order map has a panel for each kind of policy, at the last of its settings.
    """
    stored = SampleStore(directory / COMPARISON / SAMPLES).read_all()
    last = {row.policy: row.label for row in rows}
    maps = {name: stored[label].revealed_at for name, label in last.items()}
    plots.save(plots.frontier_figure(rows, curve=_schedule), directory / "frontier.png")
    plots.save(plots.order_map_figure(maps, grid_of(task)), directory / "order_map.png")


def _schedule(row: Row) -> str:
    """Which line of a policy a row is on: its count schedule, unless that is the plain one."""
    return {"cosine": "cosine"}.get(row.settings.get("schedule", ""), "")


def grid_of(task: Task) -> tuple[int, int] | None:
    """Height and width of a square task."""
    side = getattr(task, "side", None)
    return None if side is None else (side, side)


def order_maps(table: Sequence[Row], stored: Mapping[str, Generations]) -> dict[str, Steps]:
    """Steps of reveal of each kind of policy at the setting whose calls are nearest to the learned
    policy's, by kind and calls.
    """
    maps = {}
    for kind in dict.fromkeys(row.policy for row in table):
        members = [row for row in table if row.policy == kind]
        row = min(members, key=lambda row: abs(row.nfe - table[0].nfe))
        maps[f"{kind}, {row.nfe:.1f} calls"] = stored[row.label].revealed_at
    return maps


def call_counts(
    table: Sequence[Row], stored: Mapping[str, Generations]
) -> dict[str, Int[np.ndarray, " n"]]:
    """Denoiser calls of each sequence, of the learned policy and of those that choose their number."""
    counts = {table[0].policy: stored[table[0].label].nfe}
    for row in table:
        if row.policy in ADAPTIVE:
            name, knob = next(iter(row.settings.items()))
            counts[f"{row.policy} {name}={knob:g}"] = stored[row.label].nfe
    return counts


def _stored(rows: Sequence[PairedRow], directory: Path) -> tuple[list[Row], dict[str, Generations]]:
    """The rows whose generations are stored, and these, by label."""
    found = SampleStore(directory / COMPARISON / SAMPLES).read_all()
    table = [one.row for one in rows if one.row.label in found]
    return table, {row.label: found[row.label].first(row.total) for row in table}
