"""Static orders: the step at which each position is revealed, whatever the tokens are.

A static order needs no posterior and no policy. Its bound on -log p(tokens) is the token term alone, so
orders can be compared on the same sequences without noise.
"""

from dataclasses import replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax.chunks import canvases_at_once, map_rows
from mdm_jax.denoisers.base import Denoise, DenoiseExact
from mdm_jax.orders.variational.forms.base import close_after
from mdm_jax.orders.variational.model import (
    OrderModel,
    Sequence,
    calls_at_once,
    clean_nll,
    eos_places,
    response,
)
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Count, Mask, RowKey, Scalar

Steps = Int[Array, " window"]  # at which step each position is revealed
ORDERS = 8  # random ones that sequential decoding is averaged over


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


@runtime_checkable
class OrderCosts(Protocol):
    """What static orders cost on clean sequences: a callable pytree.

    Attributes:
      budget: steps of an order.
    """

    @property
    def budget(self) -> int: ...

    def __call__(self, order: Steps, step: Count, sequence: Any) -> Float[Array, " window"]:
        """-log p(token | what the order has revealed before a step) of everything still masked then,
        0 elsewhere; nats.
        """
        ...

    def positions(self, sequences: Any) -> int:
        """Positions that an order is about; sequences have a leading axis."""
        ...

    def at_once(self, sequences: Any) -> int:
        """Steps of sequences whose costs may be computed together."""
        ...


@pytree_dataclass
class DenoiserCosts:
    """Costs by a denoiser, which is called once for each step of a sequence."""

    denoise: Denoise
    model: OrderModel = static()

    @property
    def budget(self) -> int:
        return self.model.budget

    def __call__(self, order: Steps, step: Count, sequence: Sequence) -> Float[Array, " window"]:
        return step_nll(order, step, sequence, self.denoise, self.model)

    def positions(self, sequences: Sequence) -> int:
        return self.model.window or sequences.tokens.shape[1]

    def at_once(self, sequences: Sequence) -> int:
        return calls_at_once(sequences.tokens.shape[1], self.model)


def total(order: Steps, costs: Float[Array, "budget window"]) -> Scalar:
    """What each position costs at the step that reveals it, summed."""
    return jnp.sum(jnp.take_along_axis(costs, order[None, :], axis=0))


def order_nll(order: Steps, sequence: Any, costs: OrderCosts, at_once: int) -> Scalar:
    """The order's bound on -log p(tokens), nats: one denoiser call per step.

    Args:
      at_once: steps whose costs are computed together.
    """
    steps = map_rows(partial(costs, order, sequence=sequence), jnp.arange(costs.budget), at_once)
    return total(order, steps)


def bounds(order: Steps, sequences: Any, costs: OrderCosts) -> Float[Array, " n"]:
    """The order's bound on each sequence, nats per sequence."""
    size = costs.at_once(sequences)
    nll = partial(order_nll, order, costs=costs, at_once=size)
    return map_rows(nll, sequences, max(size // costs.budget, 1))


@jax.jit
def order_nlls(
    orders: Int[Array, "chains window"], sequences: Any, costs: OrderCosts
) -> Float[Array, "chains n"]:
    """`bounds` of each order."""
    return jax.lax.map(partial(bounds, sequences=sequences, costs=costs), orders)


def exact_nll(sequences: Sequence, oracle: DenoiseExact) -> Float[Array, " n"]:
    """-log p(tokens | prompt) of each sequence, nats."""

    def one(sequence: Sequence) -> Scalar:
        prompt = jnp.where(sequence.maskable, oracle.mask_id, sequence.tokens)
        return oracle.log_prob(prompt) - oracle.log_prob(sequence.tokens)

    return map_rows(one, sequences, canvases_at_once(sequences.tokens.shape[1], oracle.vocab))


@partial(jax.jit, static_argnames=("model", "orders"))
def sequential_nll(
    key: RowKey, sequences: Sequence, denoise: Denoise, model: OrderModel, orders: int = ORDERS
) -> Float[Array, " n"]:
    """-log p(tokens | prompt) under sequential decoding, one position per step, nats.

    The probability is the mean over `orders` random orders. It takes the place of exact conditionals
    where there are none, and costs `orders` denoiser calls for every position.
    """
    window = model.window or sequences.tokens.shape[1]
    costs = DenoiserCosts(denoise, replace(model, budget=window))
    size = costs.at_once(sequences)

    def one(row: tuple[Count, Sequence]) -> Scalar:
        index, sequence = row
        keys = jax.random.split(jax.random.fold_in(key, index), orders)
        random = jax.vmap(lambda k: jax.random.permutation(k, window))(keys)
        nll = jax.lax.map(lambda order: order_nll(order, sequence, costs, size), random)
        return jnp.log(orders) - jax.nn.logsumexp(-nll)

    rows = jnp.arange(len(sequences.tokens)), sequences
    return map_rows(one, rows, max(size // window, 1))


def failure(exact: Float[Array, " n"], nll: Float[Array, " n"]) -> Scalar:
    """-log of the success rate: the mean of exp(exact - nll).

    Args:
      exact: -log p(tokens | prompt) of sequences drawn from the distribution.
      nll: an order's bounds on it.
    """
    return -jnp.log(jnp.mean(jnp.exp(exact - nll)))


def success_ratios(
    order: Steps, sequences: Sequence, oracle: DenoiseExact, model: OrderModel
) -> Float[Array, " n"]:
    """p_order(x | prompt) / p(x | prompt) of sequences drawn from the distribution.

    Its mean estimates the share of draws in the given order, from exact conditionals, that the
    distribution contains: sum over x of p_order(x | prompt) = E[ratio]. One ratio may exceed 1.

    Args:
      sequences: leading axis [n].
    """
    nll = bounds(order, sequences, DenoiserCosts(oracle, model))
    return jnp.exp(exact_nll(sequences, oracle) - nll)
