"""What the best policy of all loses, by number of calls, in worlds that can be listed."""

from typing import NamedTuple

import numpy as np

from mdm_jax.evals.exact.worlds import World
from mdm_jax.orders.limits import StateGraph, best_at_price

APART = 0.2
PRICES = tuple(np.geomspace(0.003, 50, 80).tolist())  # of a call, nats


class Limit(NamedTuple):
    """The best policy at some price of a call; mixtures of two of them reach all that is between."""

    calls: float  # mean over draws of the policy
    excess: float  # nats that a sequence loses; no policy with as many calls loses less
    valid: float  # share of finished sequences that the data have


def limits(world: World) -> list[Limit]:
    """The policies that no other one is better than in both nats and calls, by falling calls.

    Exact, by dynamic programming over sets of sequences: see `orders.limits`. None where a world is not
    listed.
    """
    graph: StateGraph | None = world.graph()
    if graph is None:
        return []
    found = [best_at_price(graph, price, nats=True) for price in PRICES]
    kept = [Limit(one.calls, one.excess_nats, one.success) for one in found]
    return [one for i, one in enumerate(kept) if i == 0 or not np.allclose(one, kept[i - 1])]


def limits_text(found: list[Limit]) -> str:
    """The limits in a sentence, those that are `APART` calls apart."""
    shown: list[Limit] = []
    for one in found:
        if not shown or one.calls <= shown[-1].calls - APART:
            shown.append(one)
    each = "; ".join(f"{one.excess:.3f} nats in {one.calls:.2f} calls" for one in shown)
    return f"the least that any policy loses: {each}" if shown else ""
