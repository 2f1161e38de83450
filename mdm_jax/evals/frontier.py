"""The accuracy-cost frontier: what the settings of one family of policies reach, and at what cost.

A point is a pair (nfe, accuracy): mean denoiser calls per sequence, and share of prompts solved.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mdm_jax.evals.score import Row


class Point(NamedTuple):
    """What one setting of a policy costs and achieves; a plain pair will do as well."""

    nfe: float
    accuracy: float


def pareto(points: Sequence[tuple]) -> list[int]:
    """Indices of the points that no other one dominates, by increasing NFE.

    j dominates i iff nfe_j <= nfe_i and accuracy_j >= accuracy_i, and one of the two is strict. Of
    equal points the first is kept. So accuracy increases strictly along the result.

    Args:
        points: pairs (nfe, accuracy), in any order.

    Returns:
        Indices into `points`.

    Raises:
        ValueError: if an NFE is not positive and finite, or an accuracy not in [0, 1].
    """
    nfe, accuracy = _columns(points)
    kept, best = [], -math.inf
    for index in np.lexsort((-accuracy, nfe)).tolist():  # stable, so equal points stay in order
        if accuracy[index] > best:
            kept.append(index)
            best = accuracy[index]
    return kept


def area_under_frontier(
    points: Sequence[tuple], nfe_max: float | int, nfe_min: float | int = 1
) -> float:
    """Mean over log NFE of the best accuracy measured at no more than that NFE.

    1 / log(nfe_max / nfe_min) * integral of best(n) d log n from nfe_min to nfe_max, where
    best(n) = max {accuracy_i : nfe_i <= n}, and 0 before the first point. A step function: no credit
    for settings between the measured ones, so one more point never lowers the area, nor does a
    dominated one change it. 1 is a family that is always right at nfe_min calls. Points beyond
    nfe_max do not count; those below nfe_min count from nfe_min on.

    Args:
        points: pairs (nfe, accuracy) of one family, in any order.
        nfe_max: the cost of the most expensive sampler compared, e.g. the generated length.
        nfe_min: the cost of the cheapest, as a rule a single call.

    Returns:
        The area, in [0, 1]. It compares families only at the same two ends.

    Raises:
        ValueError: as `pareto`, and unless 0 < nfe_min < nfe_max < infinity.
    """
    if not 0 < nfe_min < nfe_max < math.inf:
        raise ValueError(f"need 0 < nfe_min < nfe_max < infinity, got {nfe_min=}, {nfe_max=}")
    nfe, accuracy = _columns([points[index] for index in pareto(points)])
    ends = np.log(np.clip(np.append(nfe, nfe_max), nfe_min, nfe_max))
    return float(accuracy @ np.diff(ends) / math.log(nfe_max / nfe_min))


def areas_under_frontiers(rows: Sequence[Row], nfe_max: int) -> dict[str, float]:
    """The area of each policy's rows, best first."""
    points: dict[str, list[Point]] = {}
    for row in rows:
        points.setdefault(row.policy, []).append(Point(row.nfe, row.accuracy))
    areas = {name: area_under_frontier(found, nfe_max) for name, found in points.items()}
    return dict(sorted(areas.items(), key=lambda item: -item[1]))


def _columns(points: Sequence[tuple]) -> tuple[np.ndarray, np.ndarray]:
    for nfe, accuracy in points:
        if not 0 < nfe < math.inf:
            raise ValueError(f"NFE must be positive and finite, got {nfe} (accuracy {accuracy})")
        if not 0 <= accuracy <= 1:
            raise ValueError(f"accuracy must be in [0, 1], got {accuracy} (NFE {nfe})")
    nfe, accuracy = np.array(points, float).reshape(len(points), 2).T
    return nfe, accuracy
