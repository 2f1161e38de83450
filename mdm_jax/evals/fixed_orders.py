"""Orders that are fixed before anything is generated: one for all prompts, and one for each."""

from collections.abc import Sequence
from pathlib import Path

from mdm_jax.evals.evaluator import Evaluator
from mdm_jax.evals.score import Row
from mdm_jax.evals.searched_orders import searched_orders
from mdm_jax.evals.static_order_limit import static_order_limit
from mdm_jax.orders.prompt_search import PromptSearch
from mdm_jax.runs.reporter import Progress


def fixed_orders(
    evaluator: Evaluator,
    budgets: Sequence[int],
    config: PromptSearch,
    home: Path,
    progress: Progress,
) -> list[Row]:
    """For each number of calls the best static order under exact conditionals, where there are any, and
    the best order of each prompt by the denoiser.

    Args:
      home: directory where both are kept, and read from.
    """
    rows = []
    for budget in budgets:
        static = static_order_limit(evaluator.task, budget, 0, home / f"static-{budget}.json")
        rows += [] if static is None else [static]
        path = home / f"searched-{budget}.json"
        rows.append(searched_orders(evaluator, budget, config, path, progress).row)
    return rows
