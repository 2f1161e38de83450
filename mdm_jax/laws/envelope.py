"""Approach 1: the size whose training curve is lowest at each number of FLOPs.

The curves have to be comparable at every point: with a learning rate that decays, only their ends are.

Reference: Hoffmann et al., arXiv:2203.15556, approach 1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mdm_jax.errors import MdmError
from mdm_jax.laws.columns import Columns, check_columns, chosen
from mdm_jax.laws.optimum import Optima

BUDGETS = 30  # evenly spaced in log FLOPs


def envelope(columns: Columns, budgets: int = BUDGETS) -> Optima:
    """The lowest of all training curves at each budget, where it is that of neither extreme size.

    Args:
      columns: `run` (a number for each run), parameters, tokens, flops and loss of points of curves.

    Returns:
      [1, budgets]

    Raises:
      MdmError: fewer than three runs, or fewer than two budgets have their best size inside.
    """
    check_columns(columns, ("parameters", "tokens", "flops", "loss"), 3)
    if "run" not in columns or len(np.unique(columns["run"])) < 3:
        raise MdmError(
            "the envelope needs the training curves of at least 3 runs, told apart by `run`"
        )
    curves = [chosen(columns, columns["run"] == run) for run in np.unique(columns["run"])]
    inside = columns["flops"].min(), columns["flops"].max()
    grid = np.geomspace(*inside, budgets + 2)[1:-1]
    losses = np.stack([_interpolated(curve, grid) for curve in curves])
    sizes = np.array([curve["parameters"][0] for curve in curves])
    found = [_best(at, losses[:, i], sizes, curves) for i, at in enumerate(grid)]
    kept = [one for one in found if one is not None]
    if len(kept) < 2:
        raise MdmError(
            "no two budgets have their best size between smaller and larger ones: add sizes"
        )
    return Optima(*np.array(kept).T[:, None])


def _interpolated(
    curve: Columns, grid: Float[np.ndarray, " budgets"]
) -> Float[np.ndarray, " budgets"]:
    """Loss at each budget, linear in log FLOPs; infinite outside the curve."""
    order = np.argsort(curve["flops"])
    x, y = np.log(curve["flops"][order]), curve["loss"][order]
    return np.interp(np.log(grid), x, y, left=np.inf, right=np.inf)


def _best(
    flops: float,
    losses: Float[np.ndarray, " runs"],
    sizes: Float[np.ndarray, " runs"],
    curves: Sequence[Any],
) -> tuple[float, float, float, float] | None:
    """flops, parameters, tokens and loss of the lowest curve; None if no other size is beyond it."""
    there, best = np.isfinite(losses), losses.argmin()
    if not there.any() or sizes[best] in (sizes[there].min(), sizes[there].max()):
        return None
    curve = curves[best]
    tokens = curve["tokens"][0] / curve["flops"][0] * flops  # FLOPs grow with tokens along a curve
    return flops, float(sizes[best]), float(tokens), float(losses[best])
