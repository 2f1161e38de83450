"""What a policy should do along clean sequences: the decisions of the orders that their prompts get."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from mdm_jax.chunks import map_rows
from mdm_jax.denoisers.base import Denoise
from mdm_jax.orders.static import Steps, masked_at
from mdm_jax.orders.variational.loss import OrderParts
from mdm_jax.orders.variational.model import (
    Sequence,
    calls_at_once,
    clean_nll,
    eos_places,
    response,
)
from mdm_jax.types import Count, Mask, Scalar


class Demonstrations(NamedTuple):
    """What the policy sees at every step but the last, which reveals all, and what it should do."""

    features: Any  # of the policy's network, leading axes [..., budget - 1]
    reveal: Bool[Array, "*rows window"]
    is_masked: Bool[Array, "*rows window"]  # False throughout where the order was finished before


def without_gaps(order: Steps, maskable: Mask, budget: int) -> Steps:
    """The order without the steps at which the prompt leaves nothing to reveal."""
    used = jax.vmap(lambda step: jnp.any(maskable & (order == step)))(jnp.arange(budget))
    return (jnp.cumsum(used) - used)[order]


@partial(jax.jit, static_argnames="parts")
def demonstrate(
    orders: Int[Array, "n window"], sequences: Sequence, denoise: Denoise, parts: OrderParts
) -> Demonstrations:
    """Follow an order along each clean sequence: budget - 1 denoiser calls of each.

    Args:
      sequences: leading axis [n].
    """
    model = parts.model
    steps = jnp.arange(model.budget - 1)

    def one(row: tuple[Steps, Sequence]) -> Demonstrations:
        order, sequence = row
        positions = response(sequence, model)
        maskable, ends = sequence.maskable[positions], eos_places(sequence, positions, model)
        order = without_gaps(order, maskable, model.budget)

        def at(step: Count) -> Demonstrations:
            is_masked = masked_at(order, maskable, ends, step)
            logits, _, hidden = clean_nll(sequence, positions, is_masked, denoise, model)
            left = model.budget - step
            features = parts.network.featurize(logits, is_masked, left, hidden)
            return Demonstrations(features, is_masked & (order == step), is_masked)

        return jax.vmap(at)(steps)

    size = calls_at_once(sequences.tokens.shape[1], model) // max(len(steps), 1)
    return map_rows(one, (orders, sequences), max(size, 1))


def imitation_loss(params: Any, shown: Demonstrations, parts: OrderParts) -> Scalar:
    """-log p(decision) of the policy, mean over demonstrations in which something was masked; nats.

    Args:
      params: of the policy's network.
      shown: leading axis [batch].
    """

    def log_prob(one: Demonstrations) -> Scalar:
        method = parts.network.utilities
        utilities = parts.network.apply({"params": params}, one.features, method=method)
        drawn = one.reveal.astype(jnp.int32)
        return parts.model.form.family.log_prob(utilities, drawn, one.is_masked)

    active = jnp.any(shown.reveal, axis=-1)
    logs = jnp.where(active, jax.vmap(log_prob)(shown), 0.0)
    return -jnp.sum(logs) / jnp.maximum(jnp.sum(active), 1)
