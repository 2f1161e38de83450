"""Where learning an order starts from: a static order that a search finds, kept in start.json."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from experiments._cli.console import print_once, progress
from mdm_jax.denoisers.base import Denoise
from mdm_jax.orders.search import (
    SearchConfig,
    order_nlls,
    search_objective,
    search_orders,
    sequential_nll,
)
from mdm_jax.orders.variational.elbo import OrderModel, Sequence
from mdm_jax.tasks.base import Batch, Task

HELDOUT = 10**12  # held-out batches are numbered from here: a stream apart from any update's


@dataclass(frozen=True, kw_only=True)
class InitConfig:
    """Where learning starts from.

    Attributes:
      search: of a static order; with 0 proposals learning starts from the Ancestral sampler.
      spacing: between the scores of neighbouring steps of the static order, in temperatures.
      certainty: of the policy about the static order, nats.
    """

    search: SearchConfig = field(default_factory=SearchConfig)
    spacing: float = 5.0
    certainty: float = 5.0


def static_order(
    search: SearchConfig, task: Task, seed: int, denoise: Denoise, model: OrderModel, path: Path
) -> list[int]:
    """The best static order that a search finds, kept in a file.

    Chains are compared on sequences that the search has not seen.
    """
    if path.exists():
        return json.loads(path.read_text())["order"]
    seen, unseen = (
        Sequence(*map(jnp.asarray, prompted(task, seed, HELDOUT + part, size)))
        for part, size in enumerate((search.sequences, search.validation_sequences))
    )
    exact_seen, exact_unseen = (
        as_exact(search, seed, part, data, denoise, model)
        for part, data in enumerate((seen, unseen))
    )
    k_search = jax.random.fold_in(jax.random.key(seed), 5)
    with progress("searching a static order", search.proposals) as advance:
        orders = search_orders(
            k_search,
            seen,
            denoise,
            model,
            search,
            lambda count, best: advance(count, f"{best:.3f} nats"),
            exact_seen,
        )
    nll = order_nlls(orders, unseen, denoise, model)
    bounds, costs = (np.asarray(jax.vmap(search_objective(e))(nll)) for e in (None, exact_unseen))
    best = int(costs.argmin())
    order = np.asarray(orders[best]).tolist()
    record = {
        "order": order,
        "unseen_cost_of_chains": costs.tolist(),
        "unseen_nll_of_chains": bounds.tolist(),
    }
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(record, indent=2))
    unfinished.replace(path)
    print_once(f"static order to start from: {bounds[best]:.3f} nats per sequence on unseen ones")
    return order


def as_exact(
    search: SearchConfig,
    seed: int,
    part: int,
    data: Sequence,
    denoise: Denoise,
    model: OrderModel,
) -> Array | None:
    """What orders are measured against on these sequences; None: they are judged by the bound."""
    if search.by == "bound":
        return None
    k_slow = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 14), part)
    return sequential_nll(k_slow, data, denoise, model)


def prompted(task: Task, seed: int, index: int, size: int) -> Batch:
    """Batch `index` of clean sequences with their prompts shown; a function of seed and index."""
    if index >= HELDOUT:
        clean = trimmed(task.heldout(), size, index - HELDOUT)
    else:
        clean = task.train_batch(seed, index, size)
    return task.with_prompts(clean, seed * 10**13 + index)


def trimmed(data: Batch, size: int, part: int) -> Batch:
    """`size` sequences in an order that mixes them, other ones for another part while they last."""
    rows = np.random.default_rng(0).permutation(len(data.tokens))
    chosen = np.resize(np.roll(rows, -part * size), size)
    return Batch(data.tokens[chosen], data.maskable[chosen])
