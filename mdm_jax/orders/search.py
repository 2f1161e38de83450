"""The best static order: which step each position is revealed at, whatever the tokens are.

A static order needs no posterior and no policy: its bound is the token term alone, and neighbouring
orders can be compared on the same sequences without noise. Simulated annealing over them gives a place
to start learning from, and with exact conditionals the limit that no static order can pass.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.denoisers.base import Denoise
from mdm_jax.denoisers.oracle import Oracle
from mdm_jax.errors import check_range
from mdm_jax.orders.variational.elbo import OrderModel, Sequence, clean_nll, eos_places, response
from mdm_jax.orders.variational.forms.base import close_after
from mdm_jax.types import Count, Mask, RowKey, Scalar

Steps = Int[Array, " window"]  # at which step each position is revealed
Cost = Callable[[Steps, Count], Float[Array, "n window"]]
SearchObjective = Callable[[Float[Array, " n"]], Float[Array, ""]]


def masked_at(order: Steps, maskable: Mask, ends: Mask, step: Count) -> Mask:
    """What is still masked when a step begins."""
    return close_after(maskable & (order >= step), maskable, ends)


def step_nll(
    order: Steps, step: Count, sequence: Sequence, denoise: Denoise, model: OrderModel
) -> Float[Array, " window"]:
    """-log p(token | what the order has revealed before a step) of everything still masked then,
    0 elsewhere; nats, one denoiser call.
    """
    positions = response(sequence, model)
    ends, maskable = eos_places(sequence, positions, model), sequence.maskable[positions]
    is_masked = masked_at(order, maskable, ends, step)
    return clean_nll(sequence, positions, is_masked, denoise, model)[1]


def order_nll(order: Steps, sequence: Sequence, denoise: Denoise, model: OrderModel) -> Scalar:
    """The order's bound on -log p(tokens), nats: one denoiser call per step."""
    steps = jnp.arange(model.budget)
    return total(order, jax.vmap(lambda s: step_nll(order, s, sequence, denoise, model))(steps))


def total(order: Steps, costs: Float[Array, "budget window"]) -> Scalar:
    """What each position costs at the step that reveals it, summed."""
    return jnp.sum(jnp.take_along_axis(costs, order[None, :], axis=0))


def success_rate(
    order: Steps, sequences: Sequence, oracle: Oracle, model: OrderModel
) -> Float[Array, ""]:
    """Share of draws in the given order, from exact conditionals, that the distribution contains.

    For sequences drawn from the distribution with their prompts,
    sum over x of p_order(x | prompt) = E[ p_order(x | prompt) / p(x | prompt) ].

    Args:
      sequences: leading axis [n].
    """

    nll = jax.lax.map(
        lambda sequence: order_nll(order, sequence, oracle, model), sequences, batch_size=64
    )
    return jnp.exp(-failure(exact_nll(sequences, oracle), nll))


def exact_nll(sequences: Sequence, oracle: Oracle) -> Float[Array, " n"]:
    """-log p(tokens | prompt) of each sequence, nats."""

    def one(sequence: Sequence) -> Scalar:
        prompt = jnp.where(sequence.maskable, oracle.mask_id, sequence.tokens)
        return oracle.log_prob(prompt) - oracle.log_prob(sequence.tokens)

    return jax.vmap(one)(sequences)


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Simulated annealing over static orders.

    Attributes:
      proposals: moves tried by each chain; 0: no search.
      chains: independent searches, run together.
      sequences: clean ones that orders are compared on.
      validation_sequences: other clean sequences, on which the best chain is chosen.
      by: what orders are judged by: the estimated share of an order's draws that generation one by one
        would draw as well (the mean bound hides it: a few sequences that an order all but excludes
        weigh as much there as a little too much probability everywhere), or the bound itself, for long
        responses of which no order of few steps draws any that fits.
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


class Search(NamedTuple):
    """Where one chain stands."""

    order: Steps
    costs: Float[Array, "n budget window"]  # of each position, were it revealed at each step
    best: Steps
    best_cost: Scalar  # as judged


def failure(exact: Float[Array, " n"], nll: Float[Array, " n"]) -> Scalar:
    """-log of the estimated `success_rate`, from -log p(tokens | prompt) and orders' bounds on it."""
    return -jnp.log(jnp.mean(jnp.exp(exact - nll)))


def search_objective(exact: Float[Array, " n"] | None) -> SearchObjective:
    """By success beside what is exact, or, where that is not given, by the mean bound."""
    return jnp.mean if exact is None else partial(failure, exact)


def start_search(
    key: RowKey, length: int, budget: int, cost: Cost, objective: SearchObjective = jnp.mean
) -> Search:
    """A random order."""
    order = jax.random.randint(key, (length,), 0, budget)
    costs = jax.vmap(lambda step: cost(order, step), out_axes=1)(jnp.arange(budget))
    return Search(order, costs, order, objective_of(order, costs, objective))


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
    step = jax.random.randint(k_step, (), 0, budget - 1)
    near = (order == step) | (order == step + 1)  # may be empty: then nothing moves
    one = _pick(k_one, near)
    other_side = 2 * step + 1 - order[one]
    two = _pick(k_two, order == other_side)
    swap = jax.random.bernoulli(k_swap) & jnp.any(near) & jnp.any(order == other_side)
    moved = order.at[one].set(jnp.where(jnp.any(near), other_side, order[one]))
    return jnp.where(swap, moved.at[two].set(order[one]), moved), step + 1


def _pick(key: RowKey, allowed: Bool[Array, " window"]) -> Count:
    """A uniformly random allowed position (the first, if none is)."""
    return jnp.argmax(jnp.where(allowed, jax.random.uniform(key, allowed.shape), -1.0))


def anneal(
    key: RowKey,
    search: Search,
    cost: Cost,
    temperatures: Float[Array, " proposals"],
    first: Count,
    objective: SearchObjective = jnp.mean,
) -> Search:
    """Metropolis proposals at the given temperatures (nats).

    Args:
      cost: what each position of each sequence would cost at one step of an order, nats; called once
        per proposal.
      first: number of the first proposal; proposal i uses fold_in(key, i).
      objective: what the sequences' bounds on -log p(tokens) come to.
    """
    budget = search.costs.shape[1]

    def advance(now: Search, item: tuple) -> tuple[Search, None]:
        index, temperature = item
        k_move, k_accept = jax.random.split(jax.random.fold_in(key, index))
        order, step = propose_move(k_move, now.order, budget)
        costs = now.costs.at[:, step].set(cost(order, step))
        loss = objective_of(order, costs, objective) - objective_of(now.order, now.costs, objective)
        accept = jnp.log(jax.random.uniform(k_accept)) < -loss / temperature
        order, costs = jax.tree.map(
            lambda new, old: jnp.where(accept, new, old), (order, costs), (now.order, now.costs)
        )
        reached = objective_of(order, costs, objective)
        best = jnp.where(reached < now.best_cost, order, now.best)
        return Search(order, costs, best, jnp.minimum(reached, now.best_cost)), None

    return jax.lax.scan(advance, search, (first + jnp.arange(len(temperatures)), temperatures))[0]


def search_orders(
    key: RowKey,
    sequences: Sequence,
    denoise: Denoise,
    model: OrderModel,
    config: SearchConfig,
    on_proposals: Callable[[int, float], None] = lambda count, best: None,
    exact: Float[Array, " n"] | None = None,
) -> Int[Array, "chains window"]:
    """The best order of each of several annealed chains, compared on the same sequences.

    Costs chains * proposals * sequences denoiser calls.

    Args:
      sequences: leading axis [n].
      on_proposals: told, now and then, how many proposals were tried since, and the best bound so
        far, nats per sequence.
      exact: -log p(tokens | prompt) of the sequences, exactly or as well as can be had; where given,
        orders are judged by their success rate instead of the bound.
    """
    k_start, k_moves = (jax.random.split(k, config.chains) for k in jax.random.split(key))
    shared = sequences, denoise, exact
    found = _start_chains(k_start, *shared, model)
    chunk = max(config.proposals // 20, 1)
    for first in range(0, config.proposals, chunk):
        temperatures = config.temperatures(first, min(chunk, config.proposals - first))
        found = _continue_chains(
            k_moves, found, jnp.asarray(temperatures), jnp.asarray(first), *shared, model
        )
        on_proposals(len(temperatures), float(jnp.min(found.best_cost)))
    return found.best


@partial(jax.jit, static_argnames="model")
def order_nlls(
    orders: Int[Array, "chains window"], sequences: Sequence, denoise: Denoise, model: OrderModel
) -> Float[Array, "chains n"]:
    """Bound of each order on each sequence, nats per sequence."""

    def each(order: Steps) -> Float[Array, " n"]:
        return jax.vmap(lambda s: order_nll(order, s, denoise, model))(sequences)

    return jax.lax.map(each, orders)


@partial(jax.jit, static_argnames=("model", "orders"))
def sequential_nll(
    key: RowKey, sequences: Sequence, denoise: Denoise, model: OrderModel, orders: int = 8
) -> Float[Array, " n"]:
    """-log of the probability of each sequence, one position at a time, mean over random orders; nats.

    Stands in for exact conditionals where there are none: the denoiser at its slowest. Costs `orders`
    calls for every position.
    """
    window = model.window or sequences.tokens.shape[1]
    slow = replace(model, budget=window)

    def one(index: Count, sequence: Sequence) -> Scalar:
        keys = jax.random.split(jax.random.fold_in(key, index), orders)
        random = jax.vmap(lambda k: jax.random.permutation(k, window))(keys)
        nll = jax.lax.map(lambda order: order_nll(order, sequence, denoise, slow), random)
        return jnp.log(orders) - jax.nn.logsumexp(-nll)

    return jax.vmap(one)(jnp.arange(len(sequences.tokens)), sequences)


def _cost(sequences: Sequence, denoise: Denoise, model: OrderModel) -> Cost:
    def cost(order: Steps, step: Count) -> Float[Array, "n window"]:
        return jax.vmap(lambda sequence: step_nll(order, step, sequence, denoise, model))(sequences)

    return cost


@partial(jax.jit, static_argnames="model")
def _start_chains(
    keys: Array,
    sequences: Sequence,
    denoise: Denoise,
    exact: Float[Array, " n"] | None,
    model: OrderModel,
) -> Search:
    length = model.window or sequences.tokens.shape[1]
    cost, objective = _cost(sequences, denoise, model), search_objective(exact)
    return jax.vmap(lambda key: start_search(key, length, model.budget, cost, objective))(keys)


@partial(jax.jit, static_argnames="model")
def _continue_chains(
    keys: Array,
    found: Search,
    temperatures: Float[Array, " proposals"],
    first: Count,
    sequences: Sequence,
    denoise: Denoise,
    exact: Float[Array, " n"] | None,
    model: OrderModel,
) -> Search:
    cost, objective = _cost(sequences, denoise, model), search_objective(exact)
    return jax.vmap(lambda key, chain: anneal(key, chain, cost, temperatures, first, objective))(
        keys, found
    )
