"""One page for each experiment, from what its own --help prints."""

import functools
import io
import os
import pkgutil
import re
import runpy
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from api_pages import escaped, heading, write
from sphinx.application import Sphinx
from sphinx.ext.autodoc.mock import mock as missing_packages

import experiments

PAGES = "command_line"
BOX = re.compile(r"╭─ (?P<title>.*?) ─*╮\n(?P<body>.*?)\n╰─*╯", re.DOTALL)
ENTRY = re.compile(r"^(?:-|• )")  # a flag, or a subcommand in a list of them


class Box(NamedTuple):
    """One frame of --help: a title, a sentence, and flags or subcommands with their texts."""

    title: str
    text: str
    entries: list[tuple[str, str]]


def write_pages(app: Sphinx) -> None:
    """Write command_line/EXPERIMENT.rst for each file of experiments/ that can be run."""
    for name in sorted(m.name for m in pkgutil.iter_modules(experiments.__path__)):
        source = Path(experiments.__path__[0]) / f"{name}.py"
        if source.is_file() and "__main__" in source.read_text():
            path = Path(app.srcdir) / PAGES / f"{name}.rst"
            write(path, "\n".join(_page(name, help_text(f"experiments.{name}"))))
    write(Path(app.srcdir) / PAGES / "policies.rst", "\n".join(_policies_page()))


@functools.cache
def help_text(module: str, *words: str) -> str:
    """What `python -m module WORDS --help` prints on a terminal of 80 columns."""
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # tyro then draws frames
    with (
        mock.patch("sys.argv", [module, *words, "--help"]),
        mock.patch.dict(os.environ, COLUMNS="80"),
        missing_packages(["lm_eval"]),
        redirect_stdout(printed),
        warnings.catch_warnings(),
        suppress(SystemExit),
    ):
        warnings.simplefilter("ignore", RuntimeWarning)  # some were imported as modules before
        runpy.run_module(module, run_name="__main__")
    printed.flush()
    return printed.buffer.getvalue().decode()


def boxes(text: str) -> Iterator[Box]:
    """The frames of a --help."""
    for found in BOX.finditer(text):
        rows = [row.strip("│")[1:].rstrip() for row in found["body"].splitlines()]
        rule = next((i for i, row in enumerate(rows) if row.startswith("──")), None)
        lead = [] if rule is None else rows[:rule]
        rows = rows if rule is None else rows[rule + 1 :]
        first = next((i for i, row in enumerate(rows) if ENTRY.match(row.strip())), len(rows))
        lead += rows[:first]
        yield Box(found["title"], " ".join(lead).strip(), _entries(rows[first:]))


def _entries(rows: list[str]) -> list[tuple[str, str]]:
    """Flags or subcommands, each with its text: on the same row, or below and further in."""
    found: list[tuple[str, str]] = []
    for row in rows:
        if ENTRY.match(row.strip()):
            name, _, text = row.strip().removeprefix("• ").partition("  ")
            found.append((name.strip(), text.strip()))
        elif found:
            name, text = found[-1]
            found[-1] = name, f"{text} {row.strip()}".strip()
    return found


def _page(name: str, text: str) -> Iterator[str]:
    """The page of one experiment."""
    yield from heading(name, "=")
    yield from ("", ".. code-block:: bash", "", f"   python -m experiments.{name} --help", "")
    yield from _description(text[: text.index("╭")].partition("\n")[2])
    yield from (f".. program:: {name}", "")
    for box in boxes(text):
        yield from heading(box.title.capitalize(), "-")
        yield from ("", escaped(box.text), "", *_listed(box.entries))


def _policies_page() -> Iterator[str]:
    """Every `policy:NAME` with its knobs."""
    yield from heading("policy:NAME", "=")
    yield from ("", "The policies that an experiment takes by name, and the knobs of each.", "")
    overview = next(b for b in boxes(help_text("experiments.evaluate")) if b.title == "subcommands")
    for name, told in overview.entries:
        yield from (*heading(name.removeprefix("policy:"), "-"), "", escaped(told), "")
        yield from (f".. program:: {name}", "")
        for box in boxes(help_text("experiments.evaluate", name)):
            if box.title.startswith("policy"):
                yield from _listed(box.entries)


def _listed(entries: list[tuple[str, str]]) -> Iterator[str]:
    """Flags as Sphinx options, subcommands as definitions; --help itself is left out."""
    for entry, told in entries:
        told = escaped(told.replace("(default: )", "").strip())
        if entry.startswith("--"):
            yield from (f".. option:: {entry}", "", f"   {told}", "")
        elif not entry.startswith("-"):
            yield from (f"``{entry}``", f"   {told}", "")


def _description(text: str) -> Iterator[str]:
    """The words before the first frame: commands as code, the rest as paragraphs."""
    for part in re.split(r"\n\s*\n", text.strip("\n")):
        lines = textwrap.dedent(part).strip().splitlines()
        if lines and lines[0].startswith("python -m"):
            yield from (".. code-block:: bash", "", *(f"   {line}" for line in lines), "")
        else:
            yield from (escaped(" ".join(lines)), "")


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the pages before the sources are looked for."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
