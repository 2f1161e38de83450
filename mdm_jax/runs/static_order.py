"""The static order that learning starts from: searched once, then read from the run directory."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mdm_jax.denoisers.base import Denoise
from mdm_jax.orders.search import SearchConfig, SearchData, StaticOrder, best_order, search_orders
from mdm_jax.orders.static import sequential_nll
from mdm_jax.orders.variational.model import OrderModel, Sequence
from mdm_jax.runs.json_files import read_json, write_json
from mdm_jax.tasks.base import Task
from mdm_jax.tasks.clean_batches import HELDOUT, clean_batch


def static_order(
    path: Path,
    task: Task,
    seed: int,
    denoise: Denoise,
    model: OrderModel,
    config: SearchConfig,
    progress: Callable[[int, str], None],
) -> StaticOrder:
    """The best static order that a search finds, or the one that is stored in `path`.

    Chains are compared on other sequences than those that the search is made on.

    Args:
      progress: told, now and then, how many proposals were tried since, and the lowest objective so far.
    """
    if path.exists():
        return StaticOrder(**{k: np.asarray(v) for k, v in read_json(path).items()})
    searched, validation = (
        _search_data(task, seed, part, denoise, model, config) for part in (0, 1)
    )
    k_search = jax.random.fold_in(jax.random.key(seed), 5)
    orders = search_orders(
        k_search,
        searched,
        denoise,
        model,
        config,
        lambda count, best: progress(count, f"{best:.3f} nats"),
    )
    found = best_order(orders, validation, denoise, model)
    write_json(path, {name: np.asarray(value).tolist() for name, value in found._asdict().items()})
    return found


def _search_data(
    task: Task, seed: int, part: int, denoise: Denoise, model: OrderModel, config: SearchConfig
) -> SearchData:
    """Held-out sequences: part 0 for the search, part 1 for validation."""
    size = (config.sequences, config.validation_sequences)[part]
    sequences = Sequence(*map(jnp.asarray, clean_batch(task, seed, HELDOUT + part, size)))
    if config.by == "bound":
        return SearchData(sequences)
    k_slow = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 14), part)
    return SearchData(sequences, sequential_nll(k_slow, sequences, denoise, model))
