"""The table of exact results as files: Markdown, CSV and a figure."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mdm_jax.evals import plots
from mdm_jax.evals.exact.limit import Limit, limits_text
from mdm_jax.evals.exact.measure import Measured
from mdm_jax.evals.exact.table import ExactRow, best_in, cells, columns_of, settings_of
from mdm_jax.runs.json_files import replace_text

MARKDOWN, CSV, FIGURE = "table.md", "table.csv", "exact.png"


class WorldTable(NamedTuple):
    """All policies in one world."""

    name: str
    told: str
    rows: list[ExactRow]
    best_counts: list[tuple[float, float]]  # excess nats of random positions by number of calls
    limits: list[Limit]  # of all policies


def limit_curve(profile: Float[np.ndarray, " masked"]) -> list[tuple[float, float]]:
    """What random positions lose with the best counts, by number of calls."""
    return [(float(n), best_in(profile, float(n))) for n in range(1, len(profile) + 1)]


def write_tables(tables: Sequence[WorldTable], directory: Path) -> None:
    """Write table.md, table.csv and exact.png."""
    replace_text(directory / MARKDOWN, "\n".join(map(_section, tables)))
    rows = [row for table in tables for row in table.rows]
    replace_text(directory / CSV, comma_separated(rows))
    curves = {
        "best counts, random positions": {table.name: table.best_counts for table in tables},
        "the best of all policies": {table.name: _limit_points(table) for table in tables},
    }
    worlds = {table.name: _points(table.rows) for table in tables}
    plots.save(plots.exact_figure(worlds, curves), directory / FIGURE)


def _section(table: WorldTable) -> str:
    """A world as Markdown."""
    lines = (f"**{table.name}**: {table.told}", limits_text(table.limits), markdown(table.rows))
    return "\n\n".join(filter(None, lines))


def _limit_points(table: WorldTable) -> list[tuple[float, float]]:
    return [(one.calls, one.excess) for one in table.limits]


def _points(rows: Sequence[ExactRow]) -> dict[str, list[tuple[float, float]]]:
    """(calls, excess nats) of each policy's settings."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        point = row.measured.calls.value, row.measured.excess.value
        found.setdefault(row.policy, []).append(point)
    return found


def markdown(rows: Sequence[ExactRow]) -> str:
    """The rows of one world as a table of Markdown."""
    columns = columns_of(rows)
    lines = [("policy", "settings", *columns), ("---", "---", *["---:"] * len(columns))]
    lines += [(f"`{row.policy}`", settings_of(row), *cells(row)) for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def comma_separated(rows: Sequence[ExactRow]) -> str:
    """All numbers of all rows, each estimate with its standard error, as CSV."""
    names = [name for name in Measured._fields if name != "by_call"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    errors = [part for name in names for part in (name, f"{name}_error")]
    writer.writerow(["world", "policy", "settings", "followed", *errors, "best_counts", "by_call"])
    for row in rows:
        numbers = [x for name in names for x in getattr(row.measured, name)]
        by_call = " ".join(f"{x:.6g}" for x in row.measured.by_call)
        first = row.world, row.policy, settings_of(row), row.followed
        writer.writerow([*first, *numbers, row.best_counts, by_call])
    return text.getvalue()
