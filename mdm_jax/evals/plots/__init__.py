"""Figures of accuracy against cost, of generation orders, and of training."""

from mdm_jax.evals.plots.calls import calls_figure
from mdm_jax.evals.plots.decisions import Decided, decisions_figure, response_figure
from mdm_jax.evals.plots.frontier import FrontierRow, frontier_figure
from mdm_jax.evals.plots.order_maps import order_map_figure
from mdm_jax.evals.plots.priorities import priorities_figure
from mdm_jax.evals.plots.style import save
from mdm_jax.evals.plots.training import training_figure

__all__ = [
    "Decided",
    "FrontierRow",
    "calls_figure",
    "decisions_figure",
    "frontier_figure",
    "order_map_figure",
    "priorities_figure",
    "response_figure",
    "save",
    "training_figure",
]
