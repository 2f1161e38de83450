"""When the posterior and the policy of a learned order reveal each position, by example."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from mdm_jax.evals.plots.style import COLOUR_MAP

ROWS = {"posterior": 1, "policy": 0}  # the decimals of its steps


def priorities_figure(
    posterior: Float[np.ndarray, "..."],
    policy: Int[np.ndarray, "..."],
    given: Bool[np.ndarray, "..."],
    grid: tuple[int, int] | None = None,
    titles: Sequence[str] | None = None,
) -> Figure:
    """When the posterior would reveal each position above when the policy did, per example.

    All panels are on one colour scale, from step 0 to the last one shown; given cells are grey.

    Args:
        posterior: [n, length], the expected step of reveal of each position; any value, or NaN,
            where given.
        policy: [n, length], the step from 0 at which each position was revealed; negative where
            it was not, which is drawn grey, too.
        given: [n, length], the prompt.
        grid: (height, width) of square tasks: a column of two grids per example, with the step
            written into each cell. None: one pair of strips per example, for long responses.
        titles: one for each example.

    Returns:
        The figure. With a grid, its axes are all posteriors, then all policies, then the colour
        bar; without, one axes per example with both as rows, then the colour bar.

    Raises:
        ValueError: if shapes or titles disagree, the grid has another size, or nothing is shown.
    """
    posterior, policy, given = np.asarray(posterior), np.asarray(policy), np.asarray(given)
    _check_priorities(posterior, policy, given, grid, titles)
    preferred = np.where(given, np.nan, posterior)
    revealed = np.where(given | (policy < 0), np.nan, policy)
    steps = np.ma.masked_invalid([preferred, revealed])  # [posterior or policy, n, length]
    if not steps.count():
        raise ValueError(f"nothing is revealed in {len(given)} examples")
    look = {"norm": Normalize(0, max(1, steps.max())), "cmap": COLOUR_MAP, "interpolation": "none"}
    titles = titles or [""] * len(given)
    return _grids(steps, titles, grid, look) if grid else _strips(steps, titles, look)


def _check_priorities(
    posterior: np.ndarray,
    policy: np.ndarray,
    given: np.ndarray,
    grid: tuple[int, int] | None,
    titles: Sequence[str] | None,
) -> None:
    shapes = posterior.shape, policy.shape, given.shape
    if len(set(shapes)) > 1 or given.ndim != 2:
        raise ValueError(f"posterior, policy, given of shapes {shapes}, not all one [n, length]")
    if not given.size:
        raise ValueError(f"no examples to plot: shape {given.shape}")
    if grid and math.prod(grid) != given.shape[1]:
        raise ValueError(f"{given.shape[1]} positions, not a grid of {grid}")
    if titles is not None and len(titles) != len(given):
        raise ValueError(f"{len(titles)} titles for {len(given)} examples")


def _grids(
    steps: np.ma.MaskedArray, titles: Sequence[str], grid: tuple[int, int], look: dict
) -> Figure:
    """Two rows of heat maps, one column per example."""
    cell = min(0.5, max(0.32, 2 / max(grid)))  # inches
    size = (1.3 + (grid[1] * cell + 0.15) * len(titles), 0.4 + 2 * (grid[0] * cell + 0.15))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(ROWS), len(titles), squeeze=False)
    for row, (name, decimals) in enumerate(ROWS.items()):
        panels[row, 0].set_ylabel(name)
        for axes, title, values in zip(panels[row], titles, steps[row], strict=True):
            image = axes.imshow(values.reshape(grid), **look)
            axes.set(xticks=[], yticks=[], title="" if row else title)
            axes.title.set_fontsize("small")
            _write_steps(axes, decimals, fontsize=18 * cell)
    _step_bar(figure, image, panels)
    return figure


def _write_steps(axes: Axes, decimals: int, fontsize: float) -> None:
    """Writes the value of each cell of a heat map into it, in black on the bright colours."""
    (image,) = axes.images
    luminance = image.to_rgba(image.get_array())[..., :3] @ [0.299, 0.587, 0.114]
    place = {"ha": "center", "va": "center_baseline", "fontsize": fontsize}
    for (row, column), value in np.ma.ndenumerate(image.get_array()):
        colour = "black" if luminance[row, column] > 0.45 else "white"
        axes.text(column, row, f"{value:.{decimals}f}", color=colour, **place)


def _strips(steps: np.ma.MaskedArray, titles: Sequence[str], look: dict) -> Figure:
    """One axes per example, posterior above policy, over the same positions."""
    _, n, length = steps.shape
    height = 0.9 if any(titles) else 0.7
    size = (min(12, max(6, 2 + 0.2 * length)), 0.9 + height * n)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(n, sharex=True, squeeze=False)[:, 0]
    for axes, rows, title in zip(panels, steps.swapaxes(0, 1), titles, strict=True):
        image = axes.imshow(rows, aspect="auto", **look)
        axes.axhline(0.5, color="white", linewidth=3)
        axes.set_yticks(range(len(ROWS)), ROWS, fontsize="small")
        axes.set_title(title, fontsize="small", loc="left")
        axes.tick_params(axis="y", length=0)
        axes.spines[:].set_visible(False)
        axes.label_outer(remove_inner_ticks=True)
    panels[-1].xaxis.set_major_locator(ticker.MaxNLocator(12, integer=True))
    panels[-1].set_xlabel("position")
    _step_bar(figure, image, panels)
    return figure


def _step_bar(figure: Figure, image: AxesImage, panels: np.ndarray) -> None:
    """A colour bar of one width, as high as all panels together."""
    width, height = figure.get_size_inches()
    place = {"ax": panels, "fraction": 0.25 / width, "aspect": height / 0.2, "pad": 0.1 / width}
    whole = ticker.MaxNLocator(6, integer=True)
    figure.colorbar(image, label="step of reveal", ticks=whole, **place)
