"""Figures of accuracy against cost, of generation orders and of training; none touches pyplot."""

import itertools
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps, ticker
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure, SubFigure

# Okabe & Ito (2008) without yellow, which is faint on white: told apart by the colour-blind, too
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "os^DvPX<>*hpd8H"
STYLES = ("-", "--", ":", "-.")
HEAT = colormaps["viridis"].with_extremes(bad="0.85")  # grey where there is no value
PANELS = {"nats per token": ("nelbo_per_token", "heldout_nelbo_per_token")}


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


def order_map_figure(
    maps: Mapping[str, Int[np.ndarray, "n length"]], grid: tuple[int, int] | None = None
) -> Figure:
    """Which position was revealed at which step: one panel per policy, on one colour scale.

    The colour is #{sequences with reveal_step = step} / #{sequences with reveal_step >= 0}, so the
    column of a position sums to one; grey where it was given in every sequence.

    Args:
        maps: by name of the policy, the step from 0 at which each position of each sequence was
            revealed; -1 where it was given (a prompt).
        grid: (height, width) of square tasks: adds panels with the mean step of each cell.

    Returns:
        The figure.

    Raises:
        ValueError: without maps, for one that reveals nothing, or if the grid has another size.
    """
    _check_maps(maps, grid)
    steps = 1 + max(int(map_.max()) for map_ in maps.values())
    shares = {name: reveal_shares(map_, steps) for name, map_ in maps.items()}
    lines = math.ceil(len(maps) / 4)
    columns = math.ceil(len(maps) / lines)
    size = (1.6 + 2.9 * columns, 2.8 * lines * (2 if grid else 1))
    figure = Figure(figsize=size, layout="constrained")
    parts = figure.subfigures(2 if grid else 1, squeeze=False)[:, 0]
    norm = PowerNorm(0.5, 0, max(np.nanmax(share) for share in shares.values()))
    for axes in _heat_maps(parts[0], shares, (lines, columns), norm, "share of sequences"):
        axes.set(xlabel="position", ylabel="step", aspect="auto")
    if grid:
        cells = {name: mean_step(map_).reshape(grid) for name, map_ in maps.items()}
        norm = PowerNorm(1, 0, max(np.nanmax(cell) for cell in cells.values()))
        for axes in _heat_maps(parts[1], cells, (lines, columns), norm, "mean step of reveal"):
            axes.set(xlabel="column", ylabel="row")
            axes.invert_yaxis()
    return figure


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


def save(figure: Figure, path: str | os.PathLike, dpi: int = 160) -> None:
    """Writes a figure in the format that the ending of the path names; makes its directory.

    Where there are several processes, the first one writes.
    """
    if jax.process_index() != 0:
        return
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)


def label_axes(axes: Axes, x: str, y: str) -> None:
    """Names both axes of a chart, with a pale grid behind it and no frame above or right."""
    axes.set(xlabel=x, ylabel=y)
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def reveal_shares(
    reveal_step: Int[np.ndarray, "n length"], steps: int
) -> Float[np.ndarray, "steps length"]:
    """Share of the sequences in which a position was revealed that did so at each step."""
    counts = (reveal_step == np.arange(steps)[:, None, None]).sum(1)
    revealed = counts.sum(0)
    return np.where(revealed > 0, counts / np.maximum(revealed, 1), np.nan)


def mean_step(reveal_step: Int[np.ndarray, "n length"]) -> Float[np.ndarray, " length"]:
    """Mean step of reveal of each position, over the sequences in which it was not given."""
    revealed = (reveal_step >= 0).sum(0)
    total = np.maximum(reveal_step, 0).sum(0)
    return np.where(revealed > 0, total / np.maximum(revealed, 1), np.nan)


def _check_maps(maps: Mapping[str, np.ndarray], grid: tuple[int, int] | None) -> None:
    if not maps:
        raise ValueError("no order maps to plot")
    for name, map_ in maps.items():
        if not (map_ >= 0).any():
            raise ValueError(f"{name!r} reveals nothing in {map_.shape[0]} sequences")
        if grid and math.prod(grid) != map_.shape[1]:
            raise ValueError(f"{name!r} has {map_.shape[1]} positions, not a grid of {grid}")


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


def _heat_maps(
    figure: SubFigure,
    images: Mapping[str, Float[np.ndarray, "height width"]],
    shape: tuple[int, int],
    norm: PowerNorm,
    label: str,
) -> Iterator[Axes]:
    """Draws titled images with one colour bar and yields the axes of each."""
    panels = figure.subplots(*shape, squeeze=False)
    for panel in panels.flat[len(images) :]:
        panel.set_visible(False)
    for index, (name, image) in enumerate(images.items()):
        panel = panels.flat[index]
        drawn = panel.imshow(image, norm=norm, cmap=HEAT, origin="lower", interpolation="none")
        panel.set_title(name, fontsize="small")
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(ticker.MaxNLocator(6, integer=True))
        yield panel
        if index + shape[1] < len(images):  # there is a panel below
            panel.set_xlabel("")
        if index % shape[1]:
            panel.set_ylabel("")
    figure.colorbar(drawn, ax=panels, label=label, fraction=0.05, pad=0.02)


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
