"""Which denoiser call reveals how much of each modality."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from mdm_jax.evals.plots.style import COLOURS, label_axes

COLUMNS = 3  # of panels


def modality_calls_figure(
    found: Mapping[str, Float[np.ndarray, "calls modalities"]], names: Sequence[str]
) -> Figure:
    """Stacked bars, a panel for each policy: positions of every modality by call.

    Args:
      found: by name of the policy, positions that each call reveals, mean over sequences.
      names: of the modalities.

    Raises:
      ValueError: there are no policies.
    """
    if not found:
        raise ValueError("no policies to plot")
    lines = math.ceil(len(found) / COLUMNS)
    columns = math.ceil(len(found) / lines)
    figure = Figure(figsize=(1.5 + 3.2 * columns, 0.6 + 2.6 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for panel in panels.flat[len(found) :]:
        panel.set_visible(False)
    for panel, (title, counts) in zip(panels.flat, found.items(), strict=False):
        calls, below = np.arange(1, len(counts) + 1), np.zeros(len(counts))
        for index, name in enumerate(names):
            bars = counts[:, index]
            panel.bar(calls, bars, 0.8, below, label=name, color=COLOURS[index % len(COLOURS)])
            below = below + bars
        label_axes(panel, "denoiser call", "positions")
        panel.set_title(title, fontsize="small")
        panel.grid(False, axis="x")
        panel.set_xticks(calls[:: math.ceil(len(calls) / 8)])
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize="small")
    return figure
