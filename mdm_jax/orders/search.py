"""The best static order, by simulated annealing.

Neighbouring orders differ in one step of a few positions, so a move costs one denoiser call per
sequence. The best order is where learning starts from, and with exact conditionals it estimates the most
that a static order can reach.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.chunks import map_rows
from mdm_jax.errors import check_range
from mdm_jax.orders.static import OrderCosts, Steps, failure, order_nlls, total
from mdm_jax.types import Count, RowKey, Scalar

Cost = Callable[[Steps, Count], Float[Array, "n window"]]
SearchObjective = Callable[[Float[Array, " n"]], Float[Array, ""]]


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Simulated annealing over static orders.

    Attributes:
      proposals: moves tried by each chain; 0: no search.
      chains: independent searches, run together.
      sequences: clean ones that orders are compared on.
      validation_sequences: other clean sequences, on which the best chain is chosen.
      by: how orders are compared: by their success rate relative to sequential decoding (the mean bound
        hides it: a few sequences that an order all but excludes weigh as much there as a little too much
        probability everywhere), or by the bound itself, for long responses of which no order of few
        steps draws any that fits.
      start_temperature: first temperature, nats.
      end_temperature: last temperature, nats; geometric in between.
    """

    proposals: int = 2000
    chains: int = 3
    sequences: int = 64
    validation_sequences: int = 512
    by: Literal["success", "bound"] = "success"
    start_temperature: float = 0.3
    end_temperature: float = 0.003

    def __post_init__(self) -> None:
        check_range("proposals", self.proposals, 0)
        for name in ("chains", "sequences", "validation_sequences"):
            check_range(name, getattr(self, name), 1)
        check_range("end_temperature", self.end_temperature, above=0)
        check_range("start_temperature", self.start_temperature, self.end_temperature)

    def temperatures(self, first: int, count: int) -> Float[np.ndarray, " count"]:
        """Temperatures of proposals first..first + count - 1."""
        share = (first + np.arange(count)) / self.proposals
        return (
            self.start_temperature * (self.end_temperature / self.start_temperature) ** share
        ).astype(np.float32)


class SearchData(NamedTuple):
    """What orders are compared on."""

    sequences: Any  # clean ones, as `OrderCosts` wants them, leading axis [n]
    reference_nll: Float[Array, " n"] | None = None  # see `search_objective`


class Chain(NamedTuple):
    """The state of one annealed chain."""

    order: Steps
    costs: Float[Array, "n budget window"]  # of each position, were it revealed at each step
    best: Steps
    best_cost: Scalar  # by the objective


def search_objective(reference_nll: Float[Array, " n"] | None) -> SearchObjective:
    """What is minimised, from the orders' bounds on -log p(tokens | prompt).

    Args:
      reference_nll: -log p(tokens | prompt), exact or of sequential decoding: -log of the success rate
        relative to it (`failure`). None: the mean bound.
    """
    return jnp.mean if reference_nll is None else partial(failure, reference_nll)


def start_chain(
    key: RowKey, length: int, budget: int, cost: Cost, objective: SearchObjective = jnp.mean
) -> Chain:
    """A random order."""
    order = jax.random.randint(key, (length,), 0, budget, jnp.int32)
    costs = jax.lax.map(partial(cost, order), jnp.arange(budget)).swapaxes(0, 1)
    return Chain(order, costs, order, objective_of(order, costs, objective))


def objective_of(
    order: Steps, costs: Float[Array, "n budget window"], objective: SearchObjective
) -> Scalar:
    """What an order is worth on all sequences; less is better."""
    return objective(jax.vmap(partial(total, order))(costs))


def propose_move(key: RowKey, order: Steps, budget: int) -> tuple[Steps, Count]:
    """Move a position to a neighbouring step, or swap it with one from there.

    Returns:
      The new order, and the later of the two steps: the only one at which the context changes.
    """
    k_step, k_one, k_two, k_swap = jax.random.split(key, 4)
    step = jax.random.randint(k_step, (), 0, budget - 1, jnp.int32)
    near = (order == step) | (order == step + 1)  # may be empty: then nothing moves
    one = _pick(k_one, near)
    other_side = 2 * step + 1 - order[one]
    two = _pick(k_two, order == other_side)
    swap = (
        jax.random.bernoulli(k_swap, jnp.float32(0.5))
        & jnp.any(near)
        & jnp.any(order == other_side)
    )
    moved = order.at[one].set(jnp.where(jnp.any(near), other_side, order[one]))
    return jnp.where(swap, moved.at[two].set(order[one]), moved), step + 1


def _pick(key: RowKey, allowed: Bool[Array, " window"]) -> Count:
    """A uniformly random allowed position (the first, if none is)."""
    return jnp.argmax(jnp.where(allowed, jax.random.uniform(key, allowed.shape, jnp.float32), -1.0))


def anneal(
    key: RowKey,
    chain: Chain,
    cost: Cost,
    temperatures: Float[Array, " proposals"],
    first: Count,
    objective: SearchObjective = jnp.mean,
) -> Chain:
    """Metropolis proposals at the given temperatures (nats).

    Args:
      cost: what each position of each sequence would cost at one step of an order, nats; called once
        per proposal.
      first: number of the first proposal; proposal i uses fold_in(key, i).
      objective: what the sequences' bounds on -log p(tokens) come to.
    """
    budget = chain.costs.shape[1]

    def advance(now: Chain, item: tuple) -> tuple[Chain, None]:
        index, temperature = item
        k_move, k_accept = jax.random.split(jax.random.fold_in(key, index))
        order, step = propose_move(k_move, now.order, budget)
        costs = now.costs.at[:, step].set(cost(order, step))
        loss = objective_of(order, costs, objective) - objective_of(now.order, now.costs, objective)
        accept = jnp.log(jax.random.uniform(k_accept, (), jnp.float32)) < -loss / temperature
        order, costs = jax.tree.map(
            lambda new, old: jnp.where(accept, new, old), (order, costs), (now.order, now.costs)
        )
        reached = objective_of(order, costs, objective)
        best = jnp.where(reached < now.best_cost, order, now.best)
        return Chain(order, costs, best, jnp.minimum(reached, now.best_cost)), None

    return jax.lax.scan(advance, chain, (first + jnp.arange(len(temperatures)), temperatures))[0]


def search_orders(
    key: RowKey,
    data: SearchData,
    costs: OrderCosts,
    config: SearchConfig,
    on_proposals: Callable[[int, float], None] = lambda count, best: None,
) -> Int[Array, "chains window"]:
    """The best order of each of several annealed chains, compared on the same sequences.

    Costs chains * proposals * sequences denoiser calls.

    Args:
      on_proposals: told, now and then, how many proposals were tried since, and the lowest objective so
        far.
    """
    k_start, k_moves = (jax.random.split(k, config.chains) for k in jax.random.split(key))
    chains = _start_chains(k_start, data, costs)
    chunk = max(config.proposals // 20, 1)
    for first in range(0, config.proposals, chunk):
        temperatures = config.temperatures(first, min(chunk, config.proposals - first))
        proposals = jnp.asarray(temperatures), jnp.asarray(first)
        chains = _continue_chains(k_moves, chains, proposals, data, costs)
        on_proposals(len(temperatures), float(jnp.min(chains.best_cost)))
    return chains.best


def search_chains(key: RowKey, data: SearchData, costs: OrderCosts, config: SearchConfig) -> Chain:
    """All chains of `search_orders` at their end, leading axis [chains], in one piece."""
    k_start, k_moves = (jax.random.split(k, config.chains) for k in jax.random.split(key))
    proposals = jnp.asarray(config.temperatures(0, config.proposals)), jnp.asarray(0)
    chains = _start_chains(k_start, data, costs)
    return _continue_chains(k_moves, chains, proposals, data, costs)


class StaticOrder(NamedTuple):
    """A static order, and how the chains that it was chosen from compare on validation sequences."""

    order: Int[np.ndarray, " window"]
    orders: Int[np.ndarray, "chains window"]  # of all chains, and any others that were compared
    nll: float  # its bound, nats per sequence
    costs_of_chains: Float[np.ndarray, " chains"]  # by the objective
    nll_of_chains: Float[np.ndarray, " chains"]


def best_order(
    orders: Int[Array, "chains window"], data: SearchData, costs: OrderCosts
) -> StaticOrder:
    """The best of several orders on validation sequences."""
    bounds = order_nlls(orders, data.sequences, costs)
    nll, losses = (
        np.asarray(jax.vmap(search_objective(reference))(bounds))
        for reference in (None, data.reference_nll)
    )
    best = int(losses.argmin())
    every = np.asarray(orders)
    return StaticOrder(every[best], every, float(nll[best]), losses, nll)


def _of_each_chain(
    fn: Callable[[Any, Cost, SearchObjective], Chain],
    chains: Any,
    data: SearchData,
    costs: OrderCosts,
) -> Chain:
    """`fn` of each chain, with as many denoiser calls at once as there may be."""
    size = costs.at_once(data.sequences)
    together = min(size, len(jax.tree.leaves(chains)[0]))
    objective = search_objective(data.reference_nll)

    def cost(order: Steps, step: Count) -> Float[Array, "n window"]:
        return map_rows(partial(costs, order, step), data.sequences, max(size // together, 1))

    return map_rows(lambda chain: fn(chain, cost, objective), chains, together)


@jax.jit
def _start_chains(keys: Array, data: SearchData, costs: OrderCosts) -> Chain:
    length = costs.positions(data.sequences)

    def start(key: RowKey, cost: Cost, objective: SearchObjective) -> Chain:
        return start_chain(key, length, costs.budget, cost, objective)

    return _of_each_chain(start, keys, data, costs)


@jax.jit
def _continue_chains(
    keys: Array,
    chains: Chain,
    proposals: tuple[Float[Array, " proposals"], Count],
    data: SearchData,
    costs: OrderCosts,
) -> Chain:

    def proceed(chain: tuple[RowKey, Chain], cost: Cost, objective: SearchObjective) -> Chain:
        return anneal(*chain, cost, *proposals, objective)

    return _of_each_chain(proceed, (keys, chains), data, costs)
