"""How many denoiser calls each sequence needs, by policy."""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure

from mdm_jax.evals.plots.style import COLOURS, label_axes


def calls_figure(nfe: Mapping[str, Int[np.ndarray, " n"]]) -> Figure:
    """Share of the sequences of each policy by the denoiser calls they needed: grouped bars.

    Args:
        nfe: by name of the policy, the denoiser calls of each of its sequences.

    Returns:
        The figure.

    Raises:
        ValueError: without policies, or for one without sequences.
    """
    if not nfe:
        raise ValueError("no denoiser calls to plot")
    for name, calls in nfe.items():
        if not len(calls):
            raise ValueError(f"{name!r} has no sequences")
    ticks = np.arange(min(map(np.min, nfe.values())), max(map(np.max, nfe.values())) + 1)
    width = 0.8 / len(nfe)
    figure = Figure(figsize=(min(12, max(5.5, 2 + 0.5 * len(ticks))), 3.4), layout="constrained")
    axes = figure.subplots()
    for index, (name, calls) in enumerate(nfe.items()):
        shares = (np.asarray(calls) == ticks[:, None]).mean(1)
        colour = COLOURS[index % len(COLOURS)]
        face = "white" if index // len(COLOURS) % 2 else colour  # hollow from the eighth on
        shift = (index - (len(nfe) - 1) / 2) * width
        look = {"facecolor": face, "edgecolor": colour, "linewidth": 0.8}
        axes.bar(ticks + shift, shares, width, label=name, **look)
    label_axes(axes, "denoiser calls of a sequence (NFE)", "share of sequences")
    axes.grid(False, axis="x")
    side = max(0.6, (4 - len(ticks)) / 2)  # else a single number of calls would fill the chart
    axes.set_xlim(ticks[0] - side, ticks[-1] + side)
    axes.set_xticks(ticks[:: math.ceil(len(ticks) / 20)])
    figure.legend(loc="outside right upper", frameon=False, fontsize="small")
    return figure
