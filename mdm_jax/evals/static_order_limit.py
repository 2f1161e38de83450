"""How far static orders can go: the best one that a search finds under exact conditionals."""

from functools import cache, partial
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from mdm_jax.denoisers.oracle import Oracle
from mdm_jax.evals.intervals import beta_interval
from mdm_jax.evals.labels import label_of
from mdm_jax.evals.score import Row
from mdm_jax.orders.search import SearchConfig, SearchData, search_orders
from mdm_jax.orders.static import exact_nll, success_rate
from mdm_jax.orders.variational.forms.max_normalised import MaxNormalised
from mdm_jax.orders.variational.model import OrderModel, Sequence
from mdm_jax.tasks.base import Task

NAME = "BestStaticOrder"
SEARCH = SearchConfig(proposals=2000, chains=4, start_temperature=0.2, end_temperature=0.002)
SEQUENCES = 288  # that the search sees, and as many others that it is measured on
SEARCHING = 10  # stream of the seed
FIRST_DATA_SEED = 10**14  # apart from any training's


@runtime_checkable
class HasOracle(Protocol):
    """A task with exact conditionals, at least in some of its settings."""

    def oracle(self) -> Oracle: ...


@cache
def static_order_limit(task: Task, steps: int, seed: int) -> Row | None:
    """The success rate of the best static order in `steps` calls under exact conditionals.

    An order that adapts to the prompt may pass it.

    Returns:
      None where the task has no exact conditionals, or `steps` allows one call for every position.
    """
    oracle = exact_conditionals(task)
    if oracle is None or steps >= (task.gen_length or task.length):
        return None
    rate = _best_rate(task, oracle, steps, seed)
    correct = round(rate * SEQUENCES)
    interval = beta_interval(correct, SEQUENCES)
    settings = {"steps": steps, "conditionals": "exact"}
    return Row(
        policy=NAME,
        settings=settings,
        correct=correct,
        total=SEQUENCES,
        accuracy=rate,
        low=interval.low,
        high=interval.high,
        nfe=float(steps),
        nfe_min=steps,
        nfe_max=steps,
        passes=float(steps),
        sequences_per_second=None,
        label=label_of(NAME, settings),
    )


def exact_conditionals(task: Task) -> Oracle | None:
    """The oracle of a task; None where it has too many sequences to list."""
    if not isinstance(task, HasOracle):
        return None
    try:
        return task.oracle()
    except ValueError:
        return None


def _best_rate(task: Task, oracle: Oracle, steps: int, seed: int) -> float:
    """Mean success rate on unseen sequences of the order that is best on those of the search."""
    model = OrderModel(MaxNormalised(), steps, task.vocabulary.mask_id, task.vocabulary.pad_id)
    seen, unseen = (_sequences(task, FIRST_DATA_SEED + seed + part) for part in (0, 1))
    k_search = jax.random.fold_in(jax.random.key(seed), SEARCHING)
    data = SearchData(seen, exact_nll(seen, oracle))
    orders = search_orders(k_search, data, oracle, model, SEARCH)
    rate_of = jax.jit(partial(success_rate, model=model))
    best = int(np.argmax([float(rate_of(order, seen, oracle)) for order in orders]))
    return float(rate_of(orders[best], unseen, oracle))


def _sequences(task: Task, seed: int) -> Sequence:
    """Clean sequences of the task with their prompts shown."""
    return Sequence(
        *map(jnp.asarray, task.with_prompts(task.train_batch(seed, 0, SEQUENCES), seed))
    )
