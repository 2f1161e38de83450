"""Loss against learning rate for several sizes, with a rule that transfers settings and without it."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mdm_jax.evals.plots.style import COLOUR_MAP, label_axes
from mdm_jax.laws.rate_sweep import RateSweep


def rate_sweep_figure(sweeps: Sequence[RateSweep]) -> Figure:
    """A row for each axis, a panel for each rule, a line for each size; the best rate is marked."""
    axes_names = list(dict.fromkeys(sweep.axis for sweep in sweeps))
    rules = list(dict.fromkeys(sweep.rule for sweep in sweeps))
    shape = len(axes_names), len(rules)
    figure = Figure(figsize=(4.2 * shape[1], 0.4 + 3.0 * shape[0]), layout="constrained")
    panels = figure.subplots(*shape, sharex=True, sharey="row", squeeze=False)
    for sweep in sweeps:
        axes = panels[axes_names.index(sweep.axis), rules.index(sweep.rule)]
        sizes = sorted(sweep.losses)
        for size, shade in zip(sizes, np.linspace(0.85, 0.1, len(sizes)), strict=True):
            losses, best = np.array(sweep.losses[size], float), sweep.best(size)
            losses[~np.isfinite(losses)] = np.nan
            colour = COLOUR_MAP(shade)
            axes.plot(sweep.rates, losses, color=colour, marker=".", label=f"{size}")
            axes.plot(sweep.rates[best], losses[best], "o", color=colour, markersize=9)
        axes.set(xscale="log", title=f"{sweep.rule}, {sweep.axis}")
        axes.set_xticks(sweep.rates, [f"{rate:g}" for rate in sweep.rates])
        axes.minorticks_off()
        first = axes is panels[axes_names.index(sweep.axis), 0]
        label_axes(axes, "learning rate", "held-out bound, nats per token" if first else "")
        axes.legend(title=sweep.axis, frameon=False, fontsize="small")
    return figure
