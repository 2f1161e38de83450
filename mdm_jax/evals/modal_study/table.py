"""The tables of the study: means over training seeds with their intervals, as text, Markdown and JSON."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mdm_jax.evals import plots
from mdm_jax.evals.intervals import Interval, beta_interval, seeds_interval
from mdm_jax.evals.modal_study.measure import BITS, Row, Rows, name_of
from mdm_jax.evals.modal_study.variants import Part, Setting, Training
from mdm_jax.evals.published_tables import TRIMODAL
from mdm_jax.runs.json_files import replace_text, write_json

MARKDOWN, JSON, FIGURE = "table.md", "table.json", "study.png"
NATS = ("nats", "text", "image", "speech")
AGAINST = "nats, against the first"  # training, seed by seed
HEADINGS = ("nats / sequence", "text, bits", "image, bits", "speech, bits")


class Cell(NamedTuple):
    """A mean over training seeds, with their interval; of a single seed with that of its prompts."""

    mean: float
    interval: Interval | None

    def text(self, digits: int) -> str:
        """The mean, and half the width of the interval."""
        if self.interval is None:
            return f"{self.mean:.{digits}f}"
        half = (self.interval.high - self.interval.low) / 2
        return f"{self.mean:.{digits}f} ± {half:.{digits}f}"


class Line(NamedTuple):
    """One line of a table."""

    name: str
    cells: dict[str, Cell]  # by column


class Table(NamedTuple):
    """The answer to one question."""

    name: str
    columns: tuple[str, ...]
    lines: list[Line]
    published: list[str]  # what is known of the published study


def table_of(name: str, part: Part, found: Mapping[str, Sequence[Rows]], examples: int) -> Table:
    """One table, from the rows of each training's seeds.

    Args:
      found: by the directory of a training.
      examples: prompts of each direction.
    """
    make = _by_setting if part.by_setting else _by_training
    lines = list(make(part, found, examples))
    longest = max((line.cells for line in lines), key=len)  # the first lacks a difference
    columns = tuple(dict.fromkeys((*longest, *(c for line in lines for c in line.cells))))
    published = [f"{what}: {text}" for about, what, text in TRIMODAL.rows if about == name]
    return Table(name, columns, lines, published)


def _by_training(part: Part, found: Mapping[str, Sequence[Rows]], examples: int) -> Iterator[Line]:
    first = found[part.trainings[0].directory]
    for training in part.trainings:
        seeds = found[training.directory]
        pairs = zip(seeds, first, strict=True)
        less = _mean([one[BITS]["nats"] - other[BITS]["nats"] for one, other in pairs])
        cells = {
            title: _mean([rows[BITS][column] for rows in seeds])
            for title, column in zip(HEADINGS, NATS, strict=True)
        }
        cells |= {} if seeds is first else {AGAINST: less}
        yield Line(training.name, cells | _accuracies(part.settings, seeds, examples))


def _by_setting(part: Part, found: Mapping[str, Sequence[Rows]], examples: int) -> Iterator[Line]:
    for training in part.trainings:
        for name in dict.fromkeys(setting.name for setting in part.settings):
            chosen = [one for one in part.settings if one.name == name]
            cells = _accuracies(chosen, found[training.directory], examples)
            yield Line(_title(part, training, name), cells)


def _title(part: Part, training: Training, setting: str) -> str:
    return setting if len(part.trainings) == 1 else f"{training.name}; {setting}"


def _accuracies(
    settings: Sequence[Setting], seeds: Sequence[Rows], examples: int
) -> dict[str, Cell]:
    """Percent correct in each direction."""
    names = {one.direction: name_of(one, examples) for one in settings}
    return {direction: _share([rows[name] for rows in seeds]) for direction, name in names.items()}


def _share(rows: Sequence[Row]) -> Cell:
    if len(rows) == 1:
        low, high = beta_interval(rows[0]["correct"], rows[0]["total"])
        return Cell(100 * rows[0]["correct"] / rows[0]["total"], Interval(100 * low, 100 * high))
    return _mean([100 * row["correct"] / row["total"] for row in rows])


def _mean(values: Sequence[float]) -> Cell:
    mean = sum(values) / len(values)
    return Cell(mean, seeds_interval(values) if len(values) > 1 else None)


def cells(table: Table) -> list[tuple[str, ...]]:
    """A text for the name and each column of every line."""
    return [(line.name, *(_text(line, column) for column in table.columns)) for line in table.lines]


def _text(line: Line, column: str) -> str:
    if column not in line.cells:
        return ""
    digits = 3 if "bits" in column else 2 if "nats" in column else 1
    return line.cells[column].text(digits)


def markdown(table: Table) -> str:
    """A heading, the table, and what is published."""
    rows = [("", *table.columns), ("---", *["---:"] * len(table.columns)), *cells(table)]
    text = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    known = "".join(f"- published ({TRIMODAL.source}), {line}\n" for line in table.published)
    return f"**{table.name}**\n\n{text}" + (f"\n{known}" if known else "")


def write_study(tables: Sequence[Table], told: str, directory: Path) -> None:
    """Write table.md, table.json and study.png.

    Args:
      told: the settings in a sentence.
    """
    directory.mkdir(parents=True, exist_ok=True)
    replace_text(directory / MARKDOWN, "\n".join([told + "\n", *map(markdown, tables)]))
    write_json(directory / JSON, {"told": told, "tables": [_as_json(table) for table in tables]})
    plots.save(
        plots.study_figure({table.name: _points(table) for table in tables}), directory / FIGURE
    )


def _as_json(table: Table) -> dict[str, Any]:
    lines = [
        {"name": line.name} | {k: list(_flat(v)) for k, v in line.cells.items()}
        for line in table.lines
    ]
    return {"name": table.name, "published": table.published, "lines": lines}


def _flat(cell: Cell) -> tuple[float | None, ...]:
    return (cell.mean, *(cell.interval or (None, None)))


def _points(table: Table) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Of every line and column the mean and the ends of the interval."""
    return {
        line.name: {
            name: (cell.mean, *(cell.interval or (cell.mean, cell.mean)))
            for name, cell in line.cells.items()
        }
        for line in table.lines
    }
