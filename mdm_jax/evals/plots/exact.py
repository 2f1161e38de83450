"""Excess nats against denoiser calls, a panel for each world."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import ticker
from matplotlib.figure import Figure

from mdm_jax.evals.plots.style import COLOURS, STYLES, label_axes

MARKERS = "os^DvPX<>*hpd8H"
LEAST = 1e-3  # nats; what is below is drawn here
GRID = 300  # points of a curve
LEARNED_NAMES = ("AdaptivePolicy", "LearnedPolicy")
LEARNED = {"color": "black", "marker": "*", "markersize": 11, "linestyle": "none", "zorder": 4}
Point = tuple[float, float]  # calls, excess nats


def exact_figure(
    worlds: Mapping[str, Mapping[str, Sequence[Point]]],
    curves: Mapping[str, Mapping[str, Sequence[Point]]] | None = None,
) -> Figure:
    """What policies lose against what they cost.

    Args:
      worlds: by name, the settings of each policy by its name.
      curves: lines to compare with, by name, and of each its points by world, if it has any there.

    Raises:
      ValueError: no worlds.
    """
    if not worlds:
        raise ValueError("no worlds to plot")
    columns = min(len(worlds), 3)
    rows = -(-len(worlds) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.4 * rows + 1.4), layout="constrained")
    panels = np.ravel(figure.subplots(rows, columns, squeeze=False))
    names = list(dict.fromkeys(name for world in worlds.values() for name in world))
    for panel, (world, policies) in zip(panels, worlds.items(), strict=False):
        for name, points in policies.items():
            calls, nats = np.array(sorted(points), float).T
            look = LEARNED if name in LEARNED_NAMES else _look(names.index(name))
            panel.plot(calls, np.maximum(nats, LEAST), label=name, **look)
        for (name, lines), style in zip((curves or {}).items(), STYLES, strict=False):
            if points := lines.get(world):
                calls, nats = _between(points)
                look = {"color": "0.5", "linestyle": style, "zorder": 1}
                panel.plot(calls, np.maximum(nats, LEAST), label=name, **look)
        panel.set_yscale("log")
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        label_axes(panel, "denoiser calls", f"excess nats (less than {LEAST:g}: at {LEAST:g})")
        panel.set_title(world, fontsize="medium")
    for panel in panels[len(worlds) :]:
        panel.set_axis_off()
    entries = {}
    for panel in panels[: len(worlds)]:
        entries |= dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=5,
        frameon=False,
        fontsize="x-small",
    )
    return figure


def _look(index: int) -> dict[str, Any]:
    """Colour and marker of a policy: hollow markers from the eighth on."""
    colour, hollow = COLOURS[index % len(COLOURS)], index // len(COLOURS) % 2 == 1
    marker = MARKERS[index % len(MARKERS)]
    face = "white" if hollow else colour
    look = {"color": colour, "marker": marker, "markerfacecolor": face}
    return look | {"linestyle": "none", "markersize": 5}


def _between(points: Sequence[Point]) -> Float[np.ndarray, "2 grid"]:
    """A curve through points and what mixtures of neighbours reach: straight where no axis is a log."""
    calls, nats = np.array(sorted(points), float).T
    grid = np.geomspace(calls[0], calls[-1], GRID)
    return np.stack([grid, np.interp(grid, calls, nats)])
