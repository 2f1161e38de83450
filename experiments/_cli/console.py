"""What people see: progress with rate and time left, and tables."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import jax
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from mdm_jax.evals.evaluate import Row

Advance = Callable[..., None]
_WIDTH = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", "140"))
console = Console(width=_WIDTH, highlight=False)


class _Rate(ProgressColumn):
    """Units per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.3g}/s" if speed else "", style="cyan")


def print_once(message: str) -> None:
    """Print a line, once however many processes there are."""
    if jax.process_index() == 0:
        console.print(message)


@contextmanager
def progress(title: str, total: int, done: int = 0) -> Iterator[Advance]:
    """A bar with rate and time left; yields `advance(count, note)`.

    Where the output is no terminal, a line at every tenth instead, with the same figures.

    Args:
      title: what is done.
      total: units in all.
      done: units that were there before; they say nothing about the rate.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    quiet = not console.is_terminal or jax.process_index() != 0
    with Progress(*columns, console=console, transient=False, disable=quiet) as bar:
        item = bar.add_task(title, total=total, completed=done, note="")
        seen, began = done, time.monotonic()

        def advance(count: int = 1, note: str = "") -> None:
            nonlocal seen
            before, seen = seen, seen + count
            bar.update(item, advance=count, **({"note": note} if note else {}))
            if quiet and seen * 10 // max(total, 1) > before * 10 // max(total, 1):
                rate = max(seen - done, 1) / max(time.monotonic() - began, 1e-9)
                left = timedelta(seconds=round((total - seen) / rate))
                print_once(
                    f"{title} {seen}/{total} {note}".rstrip() + f", {rate:,.2g}/s, {left} left"
                )

        yield advance


def print_rows(rows: Sequence[Row], title: str) -> None:
    """The table of accuracy against cost."""
    table = Table(title=title, title_justify="left")
    for name in ("policy", "settings"):
        table.add_column(name, no_wrap=name == "policy")
    for name in ("accuracy %", "95 % interval", "NFE [min, max]", "passes", "seq/s"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.policy,
            show_settings(row),
            f"{100 * row.accuracy:.1f}",
            f"{100 * row.low:.1f} - {100 * row.high:.1f}",
            f"{row.nfe:.2f} [{row.nfe_min}, {row.nfe_max}]",
            f"{row.passes:.1f}",
            _rate(row.sequences_per_second) if row.sequences_per_second else "-",
        )
    if jax.process_index() == 0:
        console.print(table)


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.3g}"


def show_settings(row: Row) -> str:
    """Settings as `name=value`, in their order."""
    return " ".join(f"{name}={_short(value)}" for name, value in row.settings.items())


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
