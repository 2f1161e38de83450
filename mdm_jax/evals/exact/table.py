"""The table of exact results: its rows, made once and kept, and how they are written."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mdm_jax.evals.exact.bench import Bench
from mdm_jax.evals.exact.measure import Measured, measure
from mdm_jax.evals.exact.policies import Entry
from mdm_jax.evals.labels import acting, describe_policy, label_of
from mdm_jax.orders.counts import excess_nats, optimal_counts
from mdm_jax.orders.exact.divergences import Estimate
from mdm_jax.policies.base import Policy, wants_dependence
from mdm_jax.policies.switch import as_switch
from mdm_jax.runs.description import digest
from mdm_jax.runs.json_files import append_rows, read_rows

ROWS = "rows.jsonl"
COLUMNS = (
    "calls",
    "accuracy %",
    "excess nats",
    "random",
    "best counts",
    "KL(p, q)",
    "KL(q, p)",
    "TV",
)
PLAIN = ("linear", "Linear()")  # schedules that need no mention
UNSHOWN = ("vocab", "weights")


class ExactRow(NamedTuple):
    """A policy in a world."""

    world: str
    policy: str
    settings: Mapping[str, Any]
    followed: bool  # along clean sequences; else measured by samples alone
    exact: bool  # divergences are those of the listed distribution, not bounds from draws
    measured: Measured
    best_counts: float  # excess nats of random positions with the best counts in as many calls

    @property
    def name(self) -> str:
        """Policy and settings in one text."""
        return label_of(self.policy, self.settings)


def measure_all(
    bench: Bench,
    entries: Sequence[Entry],
    directory: Path,
    on_row: Callable[[ExactRow], None] = lambda row: None,
) -> list[ExactRow]:
    """The rows of a world; those that DIRECTORY/rows.jsonl has are read from it.

    Policies of one kind share a compiled program, and so do kinds that are measured in the same way.

    Args:
      on_row: called with each row.
    """
    path, rows = directory / ROWS, {}
    known = {row["label"]: row for row in read_rows(path)}
    for followed, policies in _groups(entries):
        for policy in as_switch(policies):
            label = _label(bench, policy.chosen)
            if label not in known:
                known[label] = _as_json(_row(bench, policy, followed)) | {"label": label}
                append_rows(path, [known[label]])
            rows[label] = _from_json(known[label])
            on_row(rows[label])
    return [rows[_label(bench, entry.policy)] for entry in entries]


def _groups(entries: Sequence[Entry]) -> Iterator[tuple[bool, tuple[Policy, ...]]]:
    """Policies that may share a program: what one of them wants is computed for all."""
    groups: dict[tuple[bool, bool], list[Policy]] = {}
    for policy, followed in entries:
        groups.setdefault((followed, wants_dependence(policy)), []).append(policy)
    for (followed, _), policies in groups.items():
        yield followed, tuple(policies)


def _label(bench: Bench, policy: Any) -> str:
    """Equal labels, equal rows."""
    everything = policy, bench.world.oracle, bench.sequences, bench.prompts, bench.draws, bench.keys
    if bench.world.transition_error is not None:
        everything = *everything, "transition error"
    name = label_of(type(policy).__name__, describe_policy(policy))
    return f"{bench.world.name}: {name} {digest(everything)}"


def _row(bench: Bench, policy: Any, followed: bool) -> ExactRow:
    found = measure(bench, policy, followed)
    return ExactRow(
        bench.world.name,
        type(acting(policy)).__name__,
        describe_policy(policy),
        followed,
        bench.world.table is not None,
        found,
        best_in(bench.profile, found.calls.value),
    )


def best_in(profile: Float[np.ndarray, " masked"], calls: float) -> float:
    """Excess nats of random positions with the best counts: between two whole numbers of calls, of either
    taken at random.
    """
    few, share = math.floor(calls), calls - math.floor(calls)
    ends = [min(max(n, 1), len(profile)) for n in (few, few + 1)]
    low, high = (excess_nats(profile, optimal_counts(profile, n)) for n in ends)
    return low + share * (high - low)


def _as_json(row: ExactRow) -> dict[str, Any]:
    return row._asdict() | {"measured": {k: list(v) for k, v in row.measured._asdict().items()}}


def _from_json(row: Mapping[str, Any]) -> ExactRow:
    found = {k: v if k == "by_call" else Estimate(*v) for k, v in row["measured"].items()}
    found["by_call"] = tuple(found["by_call"])
    kept = {name: row[name] for name in ExactRow._fields}
    return ExactRow(**kept | {"measured": Measured(**found)})


def columns_of(rows: Sequence[ExactRow]) -> tuple[str, ...]:
    """Names of the cells of rows: those of a chain have one more."""
    chain = rows and math.isfinite(rows[0].measured.transitions.value)
    return (*COLUMNS, "TE") if chain else COLUMNS


def cells(row: ExactRow) -> tuple[str, ...]:
    """A line of the table after policy and settings."""
    found, bound = row.measured, "" if row.exact else "≤ "
    accuracy = Estimate(*(100 * x for x in found.valid))
    own = shown(found.excess) if row.followed else f"~ {shown(found.excess)}"
    line = (
        f"{found.calls.value:.2f}",
        shown(accuracy, 1),
        own,
        shown(found.random_positions),
        f"{row.best_counts:.3f}",
        shown(found.data_sampler, before=bound),
        shown(found.sampler_data, before=bound),
        shown(found.total_variation, before=bound),
    )
    chain = math.isfinite(found.transitions.value)
    return (*line, shown(found.transitions)) if chain else line


def shown(estimate: Estimate, digits: int = 3, before: str = "") -> str:
    """A number with half the width of its 95 % interval, where that has a digit."""
    value, half = estimate.value, estimate.high - estimate.value
    if not math.isfinite(value):
        return "-"
    text = f"{before}{max(value, 0.0):.{digits}f}"
    return text if half < 0.5 * 10**-digits else f"{text} ±{half:.{digits}f}"


def settings_of(row: ExactRow) -> str:
    """The knobs of a policy in a few words."""
    known = {k: v for k, v in row.settings.items() if k not in UNSHOWN and v not in PLAIN}
    return ", ".join(v if k == "schedule" else f"{k} {_short(v)}" for k, v in known.items())


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
