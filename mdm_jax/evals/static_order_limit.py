"""How far static orders can go: the best one that a search finds under exact conditionals."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mdm_jax.denoisers.base import DenoiseExact
from mdm_jax.evals.intervals import mean_interval
from mdm_jax.evals.labels import label_of
from mdm_jax.evals.score import Row
from mdm_jax.keys import Stream, stream
from mdm_jax.orders.search import SearchConfig, SearchData, search_orders
from mdm_jax.orders.static import exact_nll, success_ratios
from mdm_jax.orders.variational.forms.max_normalised import MaxNormalised
from mdm_jax.orders.variational.model import OrderModel, Sequence
from mdm_jax.runs.description import describe
from mdm_jax.runs.json_files import read_json, write_json
from mdm_jax.tasks.base import HasOracle, Task

NAME = "BestStaticOrder"
SEARCH = SearchConfig(proposals=2000, chains=4, start_temperature=0.2, end_temperature=0.002)
SEQUENCES = 288  # that the search sees, and as many others that it is measured on
FIRST_DATA_SEED = 10**14  # apart from any training's


def static_order_limit(task: Task, steps: int, seed: int, path: Path) -> Row | None:
    """The success rate of the best static order in `steps` calls under exact conditionals.

    An order that adapts to the prompt may pass it.

    Args:
      path: JSON file where what the search has found is kept, and read from if it is there.

    Returns:
      None where the task has no exact conditionals, or `steps` allows one call for every position.
    """
    oracle = exact_conditionals(task)
    if oracle is None or steps >= (task.gen_length or task.length):
        return None
    asked = describe({"task": task, "steps": steps, "seed": seed, "search": SEARCH})
    kept = read_json(path) if path.exists() else {}
    if kept.get("search") != asked:
        kept = {"search": asked, "ratios": _best_ratios(task, oracle, steps, seed).tolist()}
        write_json(path, kept)
    return limit_row(np.asarray(kept["ratios"]), steps)


def limit_row(ratios: Float[np.ndarray, " n"], steps: int) -> Row:
    """The row of a success rate that is estimated by the mean of `success_ratios`."""
    rate, interval = min(float(ratios.mean()), 1.0), mean_interval(ratios)
    settings = {"steps": steps, "conditionals": "exact"}
    return Row(
        policy=NAME,
        settings=settings,
        correct=round(rate * len(ratios)),
        total=len(ratios),
        accuracy=rate,
        low=min(interval.low, 1.0),
        high=min(interval.high, 1.0),
        nfe=float(steps),
        nfe_min=steps,
        nfe_max=steps,
        passes=float(steps),
        sequences_per_second=None,
        label=label_of(NAME, settings),
    )


def exact_conditionals(task: Task) -> DenoiseExact | None:
    """The oracle of a task; None where it has too many sequences to list."""
    if not isinstance(task, HasOracle):
        return None
    try:
        return task.oracle()
    except ValueError:
        return None


def _best_ratios(
    task: Task, oracle: DenoiseExact, steps: int, seed: int
) -> Float[np.ndarray, " sequences"]:
    """Success ratios on unseen sequences of the order that is best on those of the search."""
    model = OrderModel(MaxNormalised(), steps, task.vocabulary.mask_id, task.vocabulary.pad_id)
    seen, unseen = (_sequences(task, FIRST_DATA_SEED + seed + part) for part in (0, 1))
    k_search = stream(seed, Stream.ORDER_LIMIT)
    data = SearchData(seen, exact_nll(seen, oracle))
    orders = search_orders(k_search, data, oracle, model, SEARCH)
    ratios_of = jax.jit(partial(success_ratios, model=model))
    best = int(np.argmax([float(ratios_of(order, seen, oracle).mean()) for order in orders]))
    return np.asarray(ratios_of(orders[best], unseen, oracle))


def _sequences(task: Task, seed: int) -> Sequence:
    """Clean sequences of the task with their prompts shown."""
    return Sequence(
        *map(jnp.asarray, task.with_prompts(task.train_batch(seed, 0, SEQUENCES), seed))
    )
