"""What all figures share: colours, axes, and writing to a file; none touches pyplot."""

import os
import pathlib

import jax
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe & Ito (2008) without yellow, which is faint on white: told apart by the colour-blind, too
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = ("-", "--", ":", "-.")
COLOUR_MAP = colormaps["viridis"].with_extremes(bad="0.85")  # grey where there is no value


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
