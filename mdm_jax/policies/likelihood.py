"""How utilities become a random set of positions: draw it, and say how probable it was."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdm_jax.types import Mask, RowKey, Scalar

Utilities = Float[Array, " length"]


class Chances(NamedTuple):
    """Independent Bernoullis in log space: log q and log(1 - q) of each position."""

    on: Float[Array, " length"]
    off: Float[Array, " length"]


def from_logits(logits: Utilities) -> Chances:
    """q = sigmoid(logit)."""
    return Chances(jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits))


def from_log_probs(log_q: Utilities) -> Chances:
    """q = exp(log_q), log_q <= 0. Where q is 1, log(1 - q) reads 0: it is only ever multiplied by 0,
    and neither it nor its gradient may be infinite then.
    """
    certain, near = log_q >= 0, log_q > -0.6931
    # the branch that is not taken gets a harmless argument: its gradient is multiplied by 0
    close = jnp.log(-jnp.expm1(jnp.where(near & ~certain, log_q, -0.5)))
    far = jnp.log1p(-jnp.exp(jnp.where(near, -1.0, log_q)))
    off = jnp.where(certain, 0.0, jnp.where(near, close, far))
    return Chances(jnp.where(certain, 0.0, log_q), off)


def bernoulli_log_prob(chances: Chances, reveal: Mask, eligible: Mask) -> Scalar:
    """Log-probability of a set of reveals, nats."""
    return jnp.sum(jnp.where(eligible, jnp.where(reveal, chances.on, chances.off), 0.0))


def bernoulli_kl(q: Chances, p: Chances) -> Float[Array, " length"]:
    """KL(q || p) of each position, nats; finite where p is strictly inside (0, 1)."""
    on = jnp.exp(q.on)
    return on * (q.on - p.on) + (1 - on) * (q.off - p.off)


def bernoulli_entropy(q: Chances) -> Float[Array, " length"]:
    """Entropy of each position, nats."""
    on = jnp.exp(q.on)
    return -on * q.on - (1 - on) * q.off


def masked_log_softmax(utilities: Utilities, eligible: Mask) -> Utilities:
    """Log-probability of each eligible position, 0 elsewhere; all 0 where nothing is eligible."""
    lowest = jnp.finfo(utilities.dtype).min
    logs = jax.nn.log_softmax(jnp.where(eligible, utilities, lowest))
    return jnp.where(eligible, logs, 0.0)


@runtime_checkable
class Family(Protocol):
    """A distribution over sets of eligible positions, given one utility for each."""

    def draw(self, key: RowKey, utilities: Utilities, eligible: Mask) -> Mask: ...

    def mode(self, utilities: Utilities, eligible: Mask) -> Mask: ...

    def scaled(self, utilities: Utilities, scale: Scalar) -> Utilities:
        """Utilities that reveal `scale` times as much."""
        ...


@dataclass(frozen=True)
class Independent:
    """Each position on its own with probability sigmoid(utility): any set, the empty one included."""

    def draw(self, key: RowKey, utilities: Utilities, eligible: Mask) -> Mask:
        return eligible & jax.random.bernoulli(key, jax.nn.sigmoid(utilities))

    def mode(self, utilities: Utilities, eligible: Mask) -> Mask:
        return eligible & (utilities > 0)

    def scaled(self, utilities: Utilities, scale: Scalar) -> Utilities:
        """min(1, scale * probability). Jazbec et al., arXiv:2512.09106."""
        log_q = jnp.minimum(jax.nn.log_sigmoid(utilities) + jnp.log(scale), -1e-6)
        chances = from_log_probs(log_q)
        return chances.on - chances.off


@dataclass(frozen=True)
class OneAtATime:
    """One position, with probability softmax(utilities) over the eligible ones."""

    def draw(self, key: RowKey, utilities: Utilities, eligible: Mask) -> Mask:
        chosen = jax.random.categorical(key, jnp.where(eligible, utilities, -jnp.inf), mode="high")
        return eligible & (jnp.arange(len(eligible)) == chosen)

    def mode(self, utilities: Utilities, eligible: Mask) -> Mask:
        chosen = jnp.argmax(jnp.where(eligible, utilities, -jnp.inf))
        return eligible & (jnp.arange(len(eligible)) == chosen)

    def scaled(self, utilities: Utilities, scale: Scalar) -> Utilities:
        return utilities  # always one
