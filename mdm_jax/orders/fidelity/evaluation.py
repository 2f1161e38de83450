"""What a policy with a price is worth on held-out sequences, and the price for a wanted cost."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from mdm_jax.denoisers.base import Denoise
from mdm_jax.orders.fidelity.config import Parts, VineConfig
from mdm_jax.orders.fidelity.likelihood import order_likelihood, sequential_likelihood
from mdm_jax.orders.fidelity.returns import Fidelity, fidelity
from mdm_jax.orders.fidelity.teacher_forcing import Sequence
from mdm_jax.policies.base import RevealOnly
from mdm_jax.types import RowKey, Scalar

Prices = Float[Array, " prices"]


class HeldOut(NamedTuple):
    """Sequences that a policy does not learn from."""

    keys: Key[Array, " n"]
    sequences: Sequence
    log_sequential: Float[Array, " n"]


def held_out(key: RowKey, sequences: Sequence, denoise: Denoise, parts: Parts) -> HeldOut:
    """Sequences with what sequential decoding makes of them, which stays the same."""
    k_rows, k_reference = jax.random.split(key)
    sequential = sequential_likelihood(
        k_reference, sequences, parts.reference, denoise, parts.forcing, parts.config.chunk
    )
    keys = jax.random.split(k_rows, len(sequences.tokens))
    return HeldOut(keys, sequences, sequential.log_prob)


def fidelities(policies: RevealOnly, data: HeldOut, denoise: Denoise, parts: Parts) -> Fidelity:
    """Fidelity under every knob setting of a stacked policy, leading axis [settings].

    Args:
      policies: `policies.base.stack([...])`: an adaptive policy at several prices, or a heuristic.
    """

    def one(policy: RevealOnly) -> Fidelity:
        forcing, chunk = parts.forcing, parts.config.chunk
        found = order_likelihood(data.keys, data.sequences, policy, denoise, forcing, chunk)
        return fidelity(found.log_prob, data.log_sequential, found.calls)

    return jax.lax.map(one, policies)


def score(found: Fidelity, prices: Prices, parts: Parts) -> Scalar:
    """What learning maximises: mean over prices of (worth - price * calls) / (price + price_offset).

    An order is worth its overlap with sequential decoding where it learns from branches, and minus the
    nats it loses where it learns from a replay.
    """
    by_branches = isinstance(parts.config, VineConfig)
    worth = found.overlap if by_branches else -found.lost_nats
    return jnp.mean((worth - prices * found.calls) / (prices + parts.config.price_offset))


def prices_between(low: float, high: float, count: int) -> Prices:
    """Evenly spaced on a log scale."""
    ends = jnp.log(jnp.asarray((low, high), jnp.float32))
    return jnp.exp(jnp.linspace(*ends, count, dtype=jnp.float32))


def price_for(
    found: Any, prices: Prices, *, calls: float | None = None, overlap: float | None = None
) -> Scalar:
    """The price that reaches what is wanted on the sequences of `found`.

    Args:
      found: at each of the prices, `Fidelity` or a NamedTuple with `calls` alone.
      prices: rising.
      calls: at most so many on average: the lowest such price, or the highest of all.
      overlap: at least so much: the highest such price, or the lowest of all.

    Raises:
      ValueError: neither or both are wanted.
    """
    if (calls is None) == (overlap is None):
        raise ValueError("choose a price by calls or by overlap")
    if calls is not None:
        fits = found.calls <= calls
        return jnp.where(jnp.any(fits), prices[jnp.argmax(fits)], prices[-1])
    fits = found.overlap >= overlap
    last = len(prices) - 1 - jnp.argmax(fits[::-1])
    return jnp.where(jnp.any(fits), prices[last], prices[0])
