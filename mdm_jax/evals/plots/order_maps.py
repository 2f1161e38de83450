"""Which position was revealed at which step, by policy."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float, Int
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure, SubFigure

from mdm_jax.evals.plots.style import COLOUR_MAP


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
        drawn = panel.imshow(
            image, norm=norm, cmap=COLOUR_MAP, origin="lower", interpolation="none"
        )
        panel.set_title(name, fontsize="small")
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(ticker.MaxNLocator(6, integer=True))
        yield panel
        if index + shape[1] < len(images):  # there is a panel below
            panel.set_xlabel("")
        if index % shape[1]:
            panel.set_ylabel("")
    figure.colorbar(drawn, ax=panels, label=label, fraction=0.05, pad=0.02)
