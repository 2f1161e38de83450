"""Approach 2: at each budget a parabola through the losses of several sizes; power laws of the minima.

A parabola in log N approximates a sum of two powers, whose minimum is not in its middle: with five sizes
from a quarter to four times the best, the minimum of masked diffusion's published law comes out 2 % too
small in N, even without noise. The exponent is hardly touched (less than 0.001).

Reference: Hoffmann et al., arXiv:2203.15556, approach 2; of log loss as in arXiv:2512.10858.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mdm_jax.errors import MdmError
from mdm_jax.laws.columns import Columns, check_columns, chosen
from mdm_jax.laws.optimum import Optima

SAME_BUDGET = 0.05  # relative difference of FLOPs up to which runs share a budget
AROUND = 7  # sizes around the smallest loss that a parabola goes through
FURTHEST = 100.0  # |log parameters| of a minimum
NEEDED = ("parameters", "tokens", "flops", "loss")


class Budget(NamedTuple):
    """Runs at one budget whose minimum is inside their sizes, those near it alone."""

    sizes: Float[np.ndarray, " runs"]  # log parameters
    losses: Float[np.ndarray, " runs"]  # log loss
    flops: float
    product: float  # of parameters and tokens


def isoflop_budgets(
    columns: Columns, around: int = AROUND, skip_edges: bool = False
) -> list[Budget]:
    """The budgets of a sweep, smallest first, each with the runs that its parabola goes through.

    Args:
      columns: parameters, tokens, flops and loss of runs at a few budgets with several sizes each.
      around: sizes nearest to that of the smallest loss; usual are 3 to 7.
      skip_edges: leave out budgets whose minimum is not inside the sizes that were tried.

    Raises:
      MdmError: fewer than three sizes at a budget, or a minimum at the edge of its sizes.
    """
    check_columns(columns, NEEDED, 3)
    found = []
    for which in same_budget(columns["flops"]):
        try:
            found.append(_budget(chosen(columns, which), around))
        except MdmError:
            if not skip_edges:
                raise
    if len(found) < 2:
        raise MdmError(f"{len(found)} budgets have a minimum inside their sizes: give at least 2")
    return found


def same_budget(
    flops: Float[np.ndarray, " runs"], same: float = SAME_BUDGET
) -> list[Int[np.ndarray, " _"]]:
    """Indices of the runs of each budget, smallest first: a gap larger than `same` starts another."""
    order = np.argsort(flops)
    gaps = np.diff(np.log(flops[order])) > np.log1p(same)
    return np.split(order, np.flatnonzero(gaps) + 1)


def _budget(runs: Columns, around: int) -> Budget:
    sizes, losses = np.log(runs["parameters"]), np.log(runs["loss"])
    flops = float(np.exp(np.log(runs["flops"]).mean()))
    if len(np.unique(sizes)) < 3:
        raise MdmError(
            f"{len(np.unique(sizes))} sizes at {flops:.3g} FLOPs: a parabola needs three"
        )
    best = losses.argmin()
    near = np.argsort(np.abs(sizes - sizes[best]), kind="stable")[:around]
    product = float(np.exp(np.log(runs["parameters"] * runs["tokens"]).mean()))
    budget = Budget(sizes[near], losses[near], flops, product)
    vertex = _vertices(budget.sizes, budget.losses[None])[0, 0]
    if best in (sizes.argmin(), sizes.argmax()) or not sizes.min() < vertex < sizes.max():
        side = "larger" if sizes[best] > sizes.mean() else "smaller"
        raise MdmError(
            f"the smallest loss at {flops:.3g} FLOPs is at the edge of the sizes: add {side} ones, or "
            "leave the budget out"
        )
    return budget


def optima(found: list[Budget], draws: int | None = None, seed: int = 0) -> Optima:
    """The minimum of every budget's parabola, [draws, budgets].

    Args:
      found: of `isoflop_budgets`.
      draws: of residuals, from those of all budgets and with three parameters a budget allowed for, which
        are added to the parabolas. None: one draw, the losses as they are. NaN where a parabola opens
        downwards or is all but a line, and in all draws where each budget has three runs, which leave no
        residuals.
    """
    rng, columns = np.random.default_rng(seed), []
    residuals = _residuals(found)
    for budget in found:
        losses = budget.losses[None]
        if draws is not None:
            noise = rng.choice(residuals, (draws, len(budget.sizes)))
            losses = _fitted(budget) + noise
        vertices, lowest = _vertices(budget.sizes, losses).T
        vertices = np.where(np.abs(vertices) < FURTHEST, vertices, np.nan)
        parameters = np.exp(vertices)
        flops = np.full(len(parameters), budget.flops)
        columns.append((flops, parameters, budget.product / parameters, np.exp(lowest)))
    return Optima(*(np.stack(each, axis=1) for each in zip(*columns, strict=True)))


def _fitted(budget: Budget) -> Float[np.ndarray, " runs"]:
    return np.polyval(np.polyfit(budget.sizes, budget.losses, 2), budget.sizes)


def _residuals(found: list[Budget]) -> Float[np.ndarray, " all"]:
    """Of all parabolas, as large as noise would be that they had not been fitted to."""
    residuals = np.concatenate([budget.losses - _fitted(budget) for budget in found])
    free = len(residuals) - 3 * len(found)
    return residuals * np.sqrt(len(residuals) / free) if free else residuals * np.nan


def _vertices(
    sizes: Float[np.ndarray, " runs"], losses: Float[np.ndarray, "draws runs"]
) -> Float[np.ndarray, "draws 2"]:
    """(log size, log loss) at the vertex of each parabola; NaN where it opens downwards."""
    middle = sizes.mean()
    curvature, slope, level = np.linalg.pinv(np.vander(sizes - middle, 3)) @ losses.T
    with np.errstate(divide="ignore", invalid="ignore"):
        place = np.where(curvature > 0, -slope / (2 * curvature), np.nan)
    return np.stack([middle + place, level + slope * place / 2], axis=1)
