"""Generative perplexity against entropy."""

from collections.abc import Mapping, Sequence

from matplotlib import ticker
from matplotlib.figure import Figure

from mdm_jax.evals.generative import GenerativePoint
from mdm_jax.evals.plots.style import COLOURS, label_axes


def generative_figure(curves: Mapping[str, Sequence[GenerativePoint]]) -> Figure:
    """A curve over temperatures for each policy; lower is better at equal entropy.

    Args:
      curves: points of each policy by its name.
    """
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    for (name, points), colour in zip(curves.items(), COLOURS * 4, strict=False):
        ordered = sorted(points, key=lambda point: point.temperature)
        x, y = [p.entropy for p in ordered], [p.perplexity for p in ordered]
        spread = [p.perplexity - p.perplexity_low for p in ordered]
        above = [p.perplexity_high - p.perplexity for p in ordered]
        axes.errorbar(x, y, yerr=[spread, above], color=colour, marker="o", capsize=2, label=name)
        for point in ordered:
            place = point.entropy, point.perplexity
            axes.annotate(f"{point.temperature:g}", place, (4, 5), textcoords="offset points")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(ticker.StrMethodFormatter("{x:.3g}"))
    label_axes(axes, "entropy of the sampler, nats per position", "generative perplexity")
    axes.legend(frameon=False, fontsize="small")
    return figure
