"""A scaling law beside the runs it was fitted to, and its errors."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mdm_jax.evals.plots.style import COLOURS, label_axes
from mdm_jax.laws.report import Report

UNITS = {
    "flops": "training FLOPs",
    "loss": "loss, nats per token",
    "parameters": "compute-optimal parameters",
    "neg_log_accuracy": "-log accuracy",
    "kl": "KL, nats",
    "calls": "denoiser calls",
}


def law_figure(report: Report) -> Figure:
    """Left: runs, and what the law says of them. Right: its relative errors. Held-out runs are hollow.

    Args:
      report: of a law.

    Returns:
      The figure.
    """
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    relative = 100 * (report.predicted / report.measured - 1)
    for which, colour, face, name in (
        (~report.heldout, COLOURS[0], COLOURS[0], "fitted"),
        (report.heldout, COLOURS[1], "none", "held out"),
    ):
        look = {"s": 18, "edgecolors": colour, "facecolors": face, "linewidths": 1, "label": name}
        left.scatter(report.at[which], report.measured[which], **look)
        right.scatter(report.at[which], relative[which], **look)
    left.plot(report.at, report.predicted, "+", color="0.3", markersize=5, label="law")
    if report.curve is not None:
        left.plot(*report.curve, color=COLOURS[2], label="compute-optimal")
    left.set(xscale="log", yscale="log")
    right.set(xscale="log")
    _plain_numbers(left)
    right.axhline(0, color="0.4", linewidth=0.8)
    x, y = (UNITS.get(name, name) for name in (report.x, report.target))
    label_axes(left, x, y)
    label_axes(right, x, "predicted - measured, %")
    left.legend(frameon=False, fontsize="small")
    shown = np.abs(relative[np.isfinite(relative)]).max(initial=1e-3)
    right.set_ylim(-1.15 * shown, 1.15 * shown)
    return figure


def _plain_numbers(axes: Axes) -> None:
    """Where the logarithmic y axis spans less than a decade: 2.4, not 2.4 x 10^0."""
    low, high = axes.get_ylim()
    if high < 10 * low:
        for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            set_formatter("{x:.3g}")
