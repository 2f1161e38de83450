"""What varies in the study of one stream of modalities, side by side."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mdm_jax.evals.plots.style import COLOURS, label_axes

Lines = Mapping[str, Mapping[str, tuple[float, float, float]]]  # mean, low, high by column
COLUMNS = 2  # of panels


def study_figure(tables: Mapping[str, Lines]) -> Figure:
    """Accuracy of each direction by line of the table, a panel for each table.

    Args:
      tables: by name, mean and interval of every line's columns; columns of nats and bits are left out.

    Raises:
      ValueError: there are no tables.
    """
    if not tables:
        raise ValueError("no tables to plot")
    lines = math.ceil(len(tables) / COLUMNS)
    height = sum(
        max(len(one) for one in list(tables.values())[i : i + COLUMNS])
        for i in range(0, len(tables), COLUMNS)
    )
    figure = Figure(figsize=(13, 1.2 * lines + 0.3 * height), layout="constrained")
    ratios = [
        max(map(len, list(tables.values())[i : i + COLUMNS])) + 3
        for i in range(0, len(tables), COLUMNS)
    ]
    panels = figure.subplots(lines, min(COLUMNS, len(tables)), squeeze=False, height_ratios=ratios)
    for panel in panels.flat[len(tables) :]:
        panel.set_visible(False)
    for panel, (name, table) in zip(panels.flat, tables.items(), strict=False):
        _draw(panel, name, table)
    found = {
        label: handle
        for panel in panels.flat[: len(tables)]
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(found.values(), found, loc="outside lower center", ncols=8, frameon=False)
    return figure


def _draw(panel: Axes, name: str, table: Lines) -> None:
    """Points with their intervals, a row for each line."""
    columns = [
        one
        for one in dict.fromkeys(c for line in table.values() for c in line)
        if "bits" not in one and "nats" not in one
    ]
    rows = np.arange(len(table))
    for index, column in enumerate(columns):
        found = np.array([line.get(column, (np.nan,) * 3) for line in table.values()])
        mean, low, high = found.T
        shift = (index - (len(columns) - 1) / 2) * 0.6 / max(len(columns), 1)
        ends = np.maximum([mean - low, high - mean], 0)
        panel.errorbar(
            mean,
            rows + shift,
            xerr=ends,
            fmt="o",
            markersize=4,
            elinewidth=0.8,
            color=COLOURS[index % len(COLOURS)],
            label=column,
        )
    label_axes(panel, "accuracy, %", "")
    panel.set_yticks(rows, list(table), fontsize="small")
    panel.invert_yaxis()
    panel.set_title(name, fontsize="medium")
