"""Metrics of a training run against its updates."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mdm_jax.evals.plots.style import COLOURS, label_axes

PANELS = {"nats per token": ("nelbo_per_token", "heldout_nelbo_per_token")}


def training_figure(
    metrics: Sequence[Mapping[str, Any]], panels: Mapping[str, Sequence[str]] | None = None
) -> Figure:
    """Metrics against updates: every value in pale, and where there are many, a running mean.

    Args:
        metrics: rows of metrics.jsonl; not every row needs every key.
        panels: for each panel, its unit -> the keys it shows; None: `PANELS`.

    Returns:
        The figure.

    Raises:
        ValueError: if a panel has no finite value to show.
    """
    panels = PANELS if panels is None else panels
    figure = Figure(figsize=(6.4, 3.2 * len(panels) + 0.4), layout="constrained")
    stacked = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (unit, keys) in zip(stacked, panels.items(), strict=True):
        for key, colour in zip(keys, itertools.cycle(COLOURS)):
            _draw_metric(axes, metrics, key, colour)
        if not axes.lines:
            raise ValueError(f"{len(metrics)} rows of metrics have no finite value of {list(keys)}")
        axes.legend(frameon=False, fontsize="small")
        label_axes(axes, "update" if axes is stacked[-1] else "", unit)
    return figure


def _draw_metric(axes: Axes, metrics: Sequence[Mapping], key: str, colour: str) -> None:
    points = [(row["step"], row[key]) for row in metrics if np.isfinite(row.get(key, np.nan))]
    if not points:
        return
    step, value = np.array(points, float).T
    look = {"color": colour, "label": key.replace("_", " ")}
    window = len(points) // 50
    if window < 2:
        axes.plot(step, value, marker="o" if len(points) <= 50 else "", markersize=3, **look)
        return
    axes.plot(step, value, color=colour, alpha=0.25, linewidth=0.8)
    middle, mean = (np.convolve(x, np.full(window, 1 / window), "valid") for x in (step, value))
    axes.plot(middle, mean, **look)
