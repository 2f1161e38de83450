"""How much activations move in the first updates, over sizes of the network."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from mdm_jax.evals.plots.style import COLOURS, label_axes
from mdm_jax.training.coordinates import PLACES, Changes


def coordinates_figure(found: Mapping[str, Mapping[int, Changes]]) -> Figure:
    """RMS of h(t) - h(0) against a size: one panel for each name, a line for each place, the last
    update strong and earlier ones pale.

    Args:
      found: by name of the panel, changes by size. A name ends with what the size is.
    """
    figure = Figure(figsize=(3.1 * len(found) + 1, 3.4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(found), sharey=True))
    for axes, (name, by_size) in zip(panels, found.items(), strict=True):
        sizes = sorted(by_size)
        moved = np.stack([np.asarray(by_size[size]) for size in sizes])
        for column, place in enumerate(PLACES):
            for update in range(moved.shape[1]):
                last = update == moved.shape[1] - 1
                axes.plot(
                    sizes,
                    moved[:, update, column],
                    color=COLOURS[column],
                    alpha=1.0 if last else 0.2,
                    marker="o" if last else None,
                    label=place if last else None,
                )
        axes.set(xscale="log", yscale="log", title=name)
        axes.set_xticks(sizes, [str(size) for size in sizes], minor=False)
        axes.minorticks_off()
        label_axes(
            axes, name.split()[-1], "change of activations, RMS" if axes is panels[0] else ""
        )
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure
