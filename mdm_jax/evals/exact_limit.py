"""The most that any order can reach in so many calls, on tasks whose distribution can be listed."""

import math
from collections.abc import Sequence

import numpy as np

from mdm_jax.orders.limits import StateGraph, best_at_price, best_success, state_graph
from mdm_jax.tasks.base import Task
from mdm_jax.tasks.sudoku import Sudoku
from mdm_jax.tasks.sudoku.symmetries import grid_symmetries
from mdm_jax.tasks.sudoku.task import all_grids

PRICES = np.geomspace(0.003, 3.0, 60)  # of a call, in success


def graph_of(task: Task) -> StateGraph | None:
    """The states of generation from the task's prompts; None where they cannot be listed.

    Takes some seconds.
    """
    if not isinstance(task, Sudoku) or task.side != 4:
        return None
    fewest, most = task.clue_range
    return state_graph(all_grids(), shown=range(fewest, most + 1), symmetries=grid_symmetries())


def limit_at(graph: StateGraph, calls: Sequence[float]) -> list[float]:
    """The largest probability of success with a mean of so many calls, under exact conditionals.

    The best policies at all prices of a call, and mixtures of two of them, which are the best of all.
    """
    found = [best_at_price(graph, float(price)) for price in PRICES]
    points = sorted({(one.calls, one.success) for one in found})
    return [float(np.interp(x, *zip(*points, strict=True))) for x in calls]


def exact_limits(task: Task, calls: Sequence[float]) -> list[float]:
    """`limit_at` of a task's prompts; NaN where they cannot be listed."""
    graph = graph_of(task)
    return [math.nan] * len(calls) if graph is None else limit_at(graph, calls)


def limit_within(graph: StateGraph, calls: int) -> float:
    """The same where no sequence may take more."""
    return best_success(graph, calls)[-1]
