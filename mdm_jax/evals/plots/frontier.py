"""Accuracy against denoiser calls."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mdm_jax.evals.plots.style import COLOURS, STYLES, label_axes

MARKERS = "os^DvPX<>*hpd8H"


class FrontierRow(NamedTuple):
    """One setting of a family of policies: mean cost, accuracy, and the interval of the latter."""

    policy: str
    nfe: float
    accuracy: float
    low: float
    high: float


def frontier_figure(
    rows: Sequence[Any],
    reference: Mapping[str, float] | None = None,
    curve: Callable[[Any], str] = lambda row: "",
) -> Figure:
    """Accuracy with its interval against mean NFE, on a log2 axis.

    Args:
        rows: `FrontierRow`, or any record with its attributes such as `score.Row`. A policy has
            one colour and marker; its rows are joined by increasing NFE.
        reference: accuracies drawn as horizontal lines, by label.
        curve: names the line that a row is on where a policy has several, e.g. by block length.

    Returns:
        The figure.

    Raises:
        ValueError: without rows.
    """
    if not rows:
        raise ValueError("no rows to plot")
    figure = Figure(figsize=(8.5, 4.8), layout="constrained")
    axes = figure.subplots()
    for index, policy in enumerate(dict.fromkeys(row.policy for row in rows)):
        members = [row for row in rows if row.policy == policy]
        for line, name in enumerate(dict.fromkeys(curve(row) for row in members)):
            points = sorted((row for row in members if curve(row) == name), key=lambda r: r.nfe)
            look = _look(index) | {"linestyle": STYLES[line % len(STYLES)]}
            _draw_points(axes, points, f"{policy}, {name}" if name else policy, look)
    for (label, accuracy), style in zip((reference or {}).items(), itertools.cycle(STYLES[1:])):
        axes.axhline(accuracy, color="0.45", linestyle=style, linewidth=1.2, label=label, zorder=1)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(ticker.LogLocator(base=2, subs=(1.0, 1.5)))
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    label_axes(axes, "mean denoiser calls per sequence (NFE)", "accuracy, with 95 % interval")
    first = len(reference or {})  # matplotlib lists the reference lines before the policies
    entries = (part[first:] + part[:first] for part in axes.get_legend_handles_labels())
    style = {"frameon": False, "fontsize": "small", "handlelength": 3}
    figure.legend(*entries, loc="outside right upper", **style)
    return figure


def _look(index: int) -> dict[str, Any]:
    """Colour and marker of one of up to 15 policies; hollow markers from the eighth on."""
    colour = COLOURS[index % len(COLOURS)]
    hollow = index // len(COLOURS) % 2 == 1
    face = "white" if hollow else colour
    return {"color": colour, "marker": MARKERS[index % len(MARKERS)], "markerfacecolor": face}


def _draw_points(axes: Axes, points: Sequence[Any], label: str, look: dict[str, Any]) -> None:
    """A line with error bars, which at 0 % and 100 % need not reach the point itself."""
    nfe, accuracy, low, high = np.array([(p.nfe, p.accuracy, p.low, p.high) for p in points]).T
    bars = np.maximum([accuracy - low, high - accuracy], 0)
    sizes = {"markersize": 5.5, "linewidth": 1.4, "elinewidth": 0.8, "capsize": 2}
    axes.errorbar(nfe, accuracy, yerr=bars, label=label, **sizes, **look)
