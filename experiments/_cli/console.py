"""What people see: lines, tables, and progress with rate and time left.

Text that comes from users, models and paths is printed as it is: rich's markup has no meaning in it, and
control characters are shown as escapes instead of reaching the terminal.
"""

import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

from mdm_jax.runs.reporter import Advance, Reporter

# C0 and C1 controls but tab and newline, surrogates, and what reverses the direction of writing
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
NARROW = 110  # columns; in less, tables have no padding and settings stand below the policy's name
_WIDTH = None if sys.stdout.isatty() else shutil.get_terminal_size((140, 25)).columns
console = Console(width=_WIDTH, highlight=False, markup=False, emoji=False)


def _without_output() -> None:
    """Whoever read the output has gone (`| head`): carry on, as a run is worth more than its lines."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print("standard output is closed: this run continues without it", file=sys.stderr)


console.on_broken_pipe = _without_output


def escape_controls(text: str) -> str:
    """The text with control characters as escapes, such as \\x1b."""
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def print_once(message: str) -> None:
    """Print text, once however many processes there are."""
    if jax.process_index() == 0:
        console.print(Text(escape_controls(message)), soft_wrap=True)


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1
) -> None:
    """Print a table once.

    Args:
      title: printed above.
      columns: their names.
      rows: a text for each column.
      texts: how many columns, from the left, hold words, which are folded where they do not fit; the
        others hold numbers, which are aligned at the right and never cut.
    """
    table = Table(
        title=Text(escape_controls(title), style="italic"),
        title_justify="left",
        padding=(0, 0 if console.width < NARROW else 1),
    )
    for index, name in enumerate(columns):
        if index < texts:
            table.add_column(name, overflow="fold", min_width=12)
        else:
            table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(escape_controls(cell)) for cell in row))
    if jax.process_index() == 0:
        console.print(table)


def print_costs(rows: Sequence[Mapping[str, str]], title: str | None = None) -> None:
    """Print a table of measurements, each a text for every column."""
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name, justify="right" if name else "left")
    for row in rows:
        table.add_row(*row.values())
    console.print(table)


class _Rate(ProgressColumn):
    """Units per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.3g}/s" if speed else "", style="cyan")


@contextmanager
def progress(title: str, total: int, done: int = 0) -> Iterator[Advance]:
    """A bar with rate and time left; yields `advance(count, note)`.

    Where the output is no terminal, a line at every tenth instead, with the same figures.

    Args:
      title: what is done.
      total: units in all.
      done: units that are finished already; they do not count for the rate.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
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


REPORTER = Reporter(print_once, progress)
