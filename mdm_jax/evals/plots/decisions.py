"""What an unmasking policy decides, and how that changes while it learns."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mdm_jax.evals.plots.style import COLOUR_MAP, COLOURS, label_axes


class Decided(NamedTuple):
    """The steps of one generation."""

    utilities: Float[np.ndarray, "steps length"]
    is_masked: Bool[np.ndarray, "steps length"]
    unmask: Bool[np.ndarray, "steps length"]


def decisions_figure(stages: Mapping[str, Decided], grid: tuple[int, int]) -> Figure:
    """Utilities of every masked cell at every step, a dot where a cell is revealed: a line of panels
    for each stage of training.

    Args:
        stages: by name, generations from the same prompt.
        grid: (height, width) of the task.

    Returns:
        The figure; cells that are revealed already are grey.

    Raises:
        ValueError: without stages.
    """
    if not stages:
        raise ValueError("no decisions to plot")
    columns = max(len(decided.utilities) for decided in stages.values())
    figure = Figure(figsize=(1.5 * columns + 1.6, 1.8 * len(stages)), layout="constrained")
    panels = figure.subplots(len(stages), columns, squeeze=False)
    seen = np.concatenate([d.utilities[d.is_masked] for d in stages.values()])
    norm = Normalize(*np.percentile(seen, [2, 98]))
    for line, (name, decided) in zip(panels, stages.items(), strict=True):
        line[0].set_ylabel(name)
        for panel in line:
            panel.set(xticks=[], yticks=[])
        for panel in line[len(decided.utilities) :]:
            panel.set_visible(False)
        for step, (panel, *now) in enumerate(zip(line, *decided, strict=False)):
            utilities, is_masked, unmask = (x.reshape(grid) for x in now)
            shown = np.where(is_masked, utilities, np.nan)
            drawn = panel.imshow(shown, norm=norm, cmap=COLOUR_MAP, interpolation="none")
            rows, places = np.nonzero(unmask)
            panel.plot(places, rows, "o", color="white", markeredgecolor="black", markersize=5)
            panel.set_title(f"step {step}", fontsize="small")
    figure.colorbar(drawn, ax=panels, label="utility", fraction=0.03, pad=0.02)
    return figure


def response_figure(
    stages: Mapping[str, tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]],
) -> Figure:
    """How the utility of a masked position depends on its confidence, at each stage of training.

    Args:
        stages: by name, the confidences of masked positions and the policy's utilities there.

    Returns:
        The figure: every position in pale, and the mean within each tenth of the confidences.

    Raises:
        ValueError: without stages.
    """
    if not stages:
        raise ValueError("no utilities to plot")
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for (name, (confidence, utility)), colour in zip(stages.items(), COLOURS, strict=False):
        axes.plot(confidence, utility, ".", color=colour, alpha=0.08, markersize=3)
        edges = np.unique(np.quantile(confidence, np.linspace(0, 1, 11)))
        place = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, len(edges) - 1)
        centres = [(confidence[place == i].mean(), utility[place == i].mean()) for i in set(place)]
        axes.plot(*np.transpose(sorted(centres)), "o-", color=colour, label=name, markersize=4)
    axes.legend(frameon=False, fontsize="small")
    label_axes(axes, "confidence of the denoiser", "utility of revealing now")
    return figure
