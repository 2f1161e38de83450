"""Static orders: the step at which each position is revealed, whatever the tokens are.

A static order needs no posterior and no policy. Its bound on -log p(tokens) is the token term alone, so
orders can be compared on the same sequences without noise.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax.denoisers.base import Denoise
from mdm_jax.denoisers.oracle import Oracle
from mdm_jax.orders.variational.forms.base import close_after
from mdm_jax.orders.variational.model import OrderModel, Sequence, clean_nll, eos_places, response
from mdm_jax.types import Count, Mask, RowKey, Scalar

Steps = Int[Array, " window"]  # at which step each position is revealed


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


@partial(jax.jit, static_argnames="model")
def order_nlls(
    orders: Int[Array, "chains window"], sequences: Sequence, denoise: Denoise, model: OrderModel
) -> Float[Array, "chains n"]:
    """Bound of each order on each sequence, nats per sequence."""

    def each(order: Steps) -> Float[Array, " n"]:
        return jax.vmap(lambda s: order_nll(order, s, denoise, model))(sequences)

    return jax.lax.map(each, orders)


def exact_nll(sequences: Sequence, oracle: Oracle) -> Float[Array, " n"]:
    """-log p(tokens | prompt) of each sequence, nats."""

    def one(sequence: Sequence) -> Scalar:
        prompt = jnp.where(sequence.maskable, oracle.mask_id, sequence.tokens)
        return oracle.log_prob(prompt) - oracle.log_prob(sequence.tokens)

    return jax.vmap(one)(sequences)


@partial(jax.jit, static_argnames=("model", "orders"))
def sequential_nll(
    key: RowKey, sequences: Sequence, denoise: Denoise, model: OrderModel, orders: int = 8
) -> Float[Array, " n"]:
    """-log p(tokens | prompt) under sequential decoding, one position per step, nats.

    The probability is the mean over `orders` random orders. It takes the place of exact conditionals
    where there are none, and costs `orders` denoiser calls for every position.
    """
    window = model.window or sequences.tokens.shape[1]
    slow = replace(model, budget=window)

    def one(index: Count, sequence: Sequence) -> Scalar:
        keys = jax.random.split(jax.random.fold_in(key, index), orders)
        random = jax.vmap(lambda k: jax.random.permutation(k, window))(keys)
        nll = jax.lax.map(lambda order: order_nll(order, sequence, denoise, slow), random)
        return jnp.log(orders) - jax.nn.logsumexp(-nll)

    return jax.vmap(one)(jnp.arange(len(sequences.tokens)), sequences)


def failure(exact: Float[Array, " n"], nll: Float[Array, " n"]) -> Scalar:
    """-log of the success rate: the mean of exp(exact - nll).

    Args:
      exact: -log p(tokens | prompt) of sequences drawn from the distribution.
      nll: an order's bounds on it.
    """
    return -jnp.log(jnp.mean(jnp.exp(exact - nll)))


def success_ratios(
    order: Steps, sequences: Sequence, oracle: Oracle, model: OrderModel
) -> Float[Array, " n"]:
    """p_order(x | prompt) / p(x | prompt) of sequences drawn from the distribution.

    Its mean estimates the share of draws in the given order, from exact conditionals, that the
    distribution contains: sum over x of p_order(x | prompt) = E[ratio]. One ratio may exceed 1.

    Args:
      sequences: leading axis [n].
    """
    nll = jax.lax.map(
        lambda sequence: order_nll(order, sequence, oracle, model), sequences, batch_size=64
    )
    return jnp.exp(exact_nll(sequences, oracle) - nll)
