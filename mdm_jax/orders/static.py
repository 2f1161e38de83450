"""Static orders: the step at which each position is revealed, whatever the tokens are.

A static order needs no posterior and no policy. Its bound on -log p(tokens) is the token term alone, so
orders can be compared on the same sequences without noise.
"""

from dataclasses import replace
from functools import partial

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


def order_nll(order: Steps, sequence: Sequence, denoise: Denoise, model: OrderModel) -> Scalar:
    """The order's bound on -log p(tokens), nats: one denoiser call per step."""
    size = calls_at_once(len(sequence.tokens), model)
    cost = partial(step_nll, order, sequence=sequence, denoise=denoise, model=model)
    return total(order, map_rows(cost, jnp.arange(model.budget), size))


def sequences_at_once(sequences: Sequence, model: OrderModel) -> int:
    """How many sequences `order_nll` is computed of together: of each it makes `budget` calls."""
    return max(calls_at_once(sequences.tokens.shape[1], model) // model.budget, 1)


def total(order: Steps, costs: Float[Array, "budget window"]) -> Scalar:
    """What each position costs at the step that reveals it, summed."""
    return jnp.sum(jnp.take_along_axis(costs, order[None, :], axis=0))


@partial(jax.jit, static_argnames="model")
def order_nlls(
    orders: Int[Array, "chains window"], sequences: Sequence, denoise: Denoise, model: OrderModel
) -> Float[Array, "chains n"]:
    """Bound of each order on each sequence, nats per sequence."""

    def each(order: Steps) -> Float[Array, " n"]:
        nll = partial(order_nll, order, denoise=denoise, model=model)
        return map_rows(nll, sequences, sequences_at_once(sequences, model))

    return jax.lax.map(each, orders)


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
    slow = replace(model, budget=window)

    def one(row: tuple[Count, Sequence]) -> Scalar:
        index, sequence = row
        keys = jax.random.split(jax.random.fold_in(key, index), orders)
        random = jax.vmap(lambda k: jax.random.permutation(k, window))(keys)
        nll = jax.lax.map(lambda order: order_nll(order, sequence, denoise, slow), random)
        return jnp.log(orders) - jax.nn.logsumexp(-nll)

    rows = jnp.arange(len(sequences.tokens)), sequences
    return map_rows(one, rows, sequences_at_once(sequences, slow))


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
    nll_of = partial(order_nll, order, denoise=oracle, model=model)
    nll = map_rows(nll_of, sequences, sequences_at_once(sequences, model))
    return jnp.exp(exact_nll(sequences, oracle) - nll)
