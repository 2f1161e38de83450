"""How far static orders can go: the best one that a search finds under exact conditionals."""

from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mdm_jax.denoisers.base import DenoiseExact
from mdm_jax.evals.intervals import mean_interval
from mdm_jax.evals.labels import label_of
from mdm_jax.evals.score import Row
from mdm_jax.keys import Stream, stream
from mdm_jax.orders.listed import listing_of
from mdm_jax.orders.search import SearchConfig, SearchData, best_order, search_orders
from mdm_jax.orders.static import DenoiserCosts, OrderCosts, exact_nll, order_nlls
from mdm_jax.orders.variational.forms.max_normalised import MaxNormalised
from mdm_jax.orders.variational.model import OrderModel
from mdm_jax.orders.variational.model import Sequence as CleanSequence
from mdm_jax.runs.description import describe
from mdm_jax.runs.json_files import read_json, write_json
from mdm_jax.tasks.base import Batch, HasOracle, Task

NAME = "BestStaticOrder"
# Reaches 81.1 % in three calls and 96.6 % in four on 4x4 Sudoku; 40 seconds of one core.
LISTED = SearchConfig(
    proposals=3000,
    chains=24,
    sequences=2048,
    validation_sequences=2**16,
    start_temperature=0.3,
    end_temperature=0.002,
)
BY_CALLS = SearchConfig(
    proposals=2000,
    chains=4,
    sequences=288,
    validation_sequences=288,
    start_temperature=0.2,
    end_temperature=0.002,
)
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
    asked = describe({"task": task, "steps": steps, "seed": seed, "search": search_for(oracle)})
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
    """Success ratios of the order that a search finds, on sequences that it has not seen."""
    config, first = search_for(oracle), FIRST_DATA_SEED + 3 * seed
    counts = config.sequences, config.validation_sequences, config.validation_sequences
    batches = [
        task.with_prompts(task.train_batch(first + part, 0, count), first + part)
        for part, count in enumerate(counts)
    ]
    costs, (seen, validation, unseen) = _costs(task, oracle, steps, batches)
    orders = search_orders(stream(seed, Stream.ORDER_LIMIT), seen, costs, config)
    best = jnp.asarray(best_order(orders, validation, costs).order)
    return np.exp(unseen.reference_nll - order_nlls(best[None], unseen.sequences, costs)[0])


def search_for(oracle: DenoiseExact) -> SearchConfig:
    """A search that is larger where costs are looked up."""
    return BY_CALLS if listing_of(oracle) is None else LISTED


def _costs(
    task: Task, oracle: DenoiseExact, steps: int, batches: Sequence[Batch]
) -> tuple[OrderCosts, list[SearchData]]:
    """What orders cost, looked up or by calls of the oracle, and what they are compared on."""
    listing = listing_of(oracle)
    if listing is not None:
        return listing.costs(steps), [listing.data(*batch) for batch in batches]
    model = OrderModel(MaxNormalised(), steps, task.vocabulary.mask_id, task.vocabulary.pad_id)
    clean = [CleanSequence(*map(jnp.asarray, batch)) for batch in batches]
    return DenoiserCosts(oracle, model), [SearchData(x, exact_nll(x, oracle)) for x in clean]
