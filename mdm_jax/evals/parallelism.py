"""Accuracy under parallelism: one number for a whole curve of accuracy against tokens per call."""

import math
from collections.abc import Sequence

from mdm_jax.evals.score import Row

DROP, STEEPNESS = 5.0, 3.0  # accuracy points that may be lost, and how losses are weighted


def accuracy_under_parallelism(points: Sequence[tuple[float, float]], best: float) -> float:
    """AUP: area under accuracy, in per cent, against tokens per call, falling accuracies discounted.

    With the points (rho_i, y_i) by rising rho, those of y_i < y_1 - 5 left out, and
    W(y) = min(exp(-3 (1 - y / best)), 1):

      rho_1 y_1 + sum_i (rho_i - rho_(i-1)) (y_i W(y_i) + y_(i-1) W(y_(i-1))) / 2.

    Args:
      points: (tokens per call, accuracy in per cent) of one method's settings, in any order.
      best: the best accuracy of any method on the task, per cent.

    Raises:
      ValueError: no points, or `best` is not positive.

    Reference: d3LLM, arXiv:2601.07568, as its authors' blog has the formula (reported second-hand).
    """
    if not points or best <= 0:
        raise ValueError(f"need at least one point and a positive best accuracy, got {best}")
    ordered = sorted(points)
    kept = [(rho, y) for rho, y in ordered if y >= ordered[0][1] - DROP]
    heights = [y * min(math.exp(-STEEPNESS * (1 - y / best)), 1.0) for _, y in kept]
    area = kept[0][0] * kept[0][1]
    for i in range(1, len(kept)):
        area += (kept[i][0] - kept[i - 1][0]) * (heights[i] + heights[i - 1]) / 2
    return area


def parallelism_of_rows(rows: Sequence[Row]) -> dict[str, float]:
    """AUP of each policy's rows, largest first; the best accuracy is that of any of them.

    Empty where no row has solved anything.
    """
    best = max((100 * row.accuracy for row in rows), default=0.0)
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows if best else ():
        points.setdefault(row.policy, []).append((row.tokens_per_call, 100 * row.accuracy))
    found = {name: accuracy_under_parallelism(of, best) for name, of in points.items()}
    return dict(sorted(found.items(), key=lambda item: -item[1]))
