"""How faithful an order is to sequential decoding.

With w(x) = p_order(x | prompt) / p_sequential(x | prompt), for x ~ p_sequential,

  E[w]         = mass of the order's draws on what sequential decoding can draw
  E[min(1, w)] = 1 - total variation(order, sequential)
  E[-log w]    = KL(sequential || order), what the order's calls lose in nats.

Clean sequences of the data stand in for x ~ p_sequential. min(cap, w) is what is learned from: no more
can be had from one sequence than cap, so an order gains nothing from sequences on which the denoiser
contradicts itself in its favour.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax.types import Scalar


class Fidelity(NamedTuple):
    """Means over sequences."""

    mass: Scalar  # E[w]: the success rate where exact conditionals are known
    overlap: Scalar  # E[min(1, w)]
    lost_nats: Scalar  # E[-log w]
    calls: Scalar


def capped_ratio(log_w: Float[Array, "..."], cap: float | Scalar) -> Float[Array, "..."]:
    """min(cap, w)."""
    return jnp.exp(jnp.minimum(log_w, jnp.log(cap)))


def fidelity(
    log_order: Float[Array, " n"], log_sequential: Float[Array, " n"], calls: Int[Array, " n"]
) -> Fidelity:
    """From log p of each sequence under the order and under sequential decoding."""
    log_w = log_order - log_sequential
    overlap = capped_ratio(log_w, 1.0)
    return Fidelity(*(jnp.mean(x) for x in (jnp.exp(log_w), overlap, -log_w, calls)))
