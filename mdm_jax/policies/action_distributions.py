"""Distributions over sets of positions: draws and log-probabilities, given a utility per position."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax.errors import check_range
from mdm_jax.policies.base import best
from mdm_jax.types import Mask, RowKey, Scalar

Utilities = Float[Array, " length"]
SelectionOrder = Int[Array, " length"]  # 1, 2, ... in the order drawn; 0: not drawn


class BernoulliLogProbs(NamedTuple):
    """Independent Bernoullis in log space: log q and log(1 - q) of each position."""

    log_reveal: Float[Array, " length"]
    log_keep: Float[Array, " length"]


def from_logits(logits: Utilities) -> BernoulliLogProbs:
    """q = sigmoid(logit)."""
    return BernoulliLogProbs(jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits))


def from_log_probs(log_q: Utilities) -> BernoulliLogProbs:
    """q = exp(log_q), log_q <= 0.

    Where q is 1, log(1 - q) is set to 0: its weight is 0 there, and 0 times infinity would be NaN.
    """
    certain, near = log_q >= 0, log_q > -0.6931
    # the branch not taken gets a harmless argument, so that its gradient is finite before it is zeroed
    close = jnp.log(-jnp.expm1(jnp.where(near & ~certain, log_q, -0.5)))
    far = jnp.log1p(-jnp.exp(jnp.where(near, -1.0, log_q)))
    off = jnp.where(certain, 0.0, jnp.where(near, close, far))
    return BernoulliLogProbs(jnp.where(certain, 0.0, log_q), off)


def bernoulli_log_prob(bernoulli: BernoulliLogProbs, reveal: Mask, eligible: Mask) -> Scalar:
    """Log-probability of a set of reveals, nats."""
    return jnp.sum(
        jnp.where(eligible, jnp.where(reveal, bernoulli.log_reveal, bernoulli.log_keep), 0.0)
    )


def bernoulli_kl(q: BernoulliLogProbs, p: BernoulliLogProbs) -> Float[Array, " length"]:
    """KL(q || p) of each position, nats; finite where p is strictly inside (0, 1)."""
    on = jnp.exp(q.log_reveal)
    return on * (q.log_reveal - p.log_reveal) + (1 - on) * (q.log_keep - p.log_keep)


def bernoulli_entropy(q: BernoulliLogProbs) -> Float[Array, " length"]:
    """Entropy of each position, nats."""
    on = jnp.exp(q.log_reveal)
    return -on * q.log_reveal - (1 - on) * q.log_keep


def masked_log_softmax(utilities: Utilities, eligible: Mask) -> Utilities:
    """Log-probability of each eligible position, 0 elsewhere; all 0 if nothing is eligible."""
    lowest = jnp.finfo(utilities.dtype).min
    logs = jax.nn.log_softmax(jnp.where(eligible, utilities, lowest))
    return jnp.where(eligible, logs, 0.0)


@runtime_checkable
class ActionDistribution(Protocol):
    """A distribution over sets of eligible positions, given one utility for each."""

    def draw(
        self,
        key: RowKey,
        utilities: Utilities,
        eligible: Mask,
        temperature: Scalar | float = 1.0,
    ) -> SelectionOrder:
        """A random set of positions, in the order in which they were drawn.

        Args:
          temperature: the log-odds of every choice are divided by it; as it goes to 0 the draw becomes
            the mode.
        """
        ...

    def log_prob(self, utilities: Utilities, order: SelectionOrder, eligible: Mask) -> Scalar:
        """Log-probability of a draw at temperature 1, nats; 0 if nothing is eligible, -inf for a set
        that is never drawn.
        """
        ...

    def mode(self, key: RowKey, utilities: Utilities, eligible: Mask) -> Mask:
        """A most probable set; one of several at random."""
        ...

    def scaled(self, utilities: Utilities, scale: Scalar) -> Utilities:
        """Utilities under which positions are `scale` times as probable, in the sense of the class."""
        ...


@dataclass(frozen=True)
class Independent:
    """Each position independently with probability sigmoid(utility); the set may be empty."""

    def draw(
        self,
        key: RowKey,
        utilities: Utilities,
        eligible: Mask,
        temperature: Scalar | float = 1.0,
    ) -> SelectionOrder:
        reveal = jax.random.bernoulli(key, jax.nn.sigmoid(utilities / temperature))
        return (eligible & reveal).astype(jnp.int32)

    def log_prob(self, utilities: Utilities, order: SelectionOrder, eligible: Mask) -> Scalar:
        return bernoulli_log_prob(from_logits(utilities), order > 0, eligible)

    def mode(self, key: RowKey, utilities: Utilities, eligible: Mask) -> Mask:
        return eligible & (utilities > 0)

    def scaled(self, utilities: Utilities, scale: Scalar) -> Utilities:
        """min(1, scale * probability). Jazbec et al., arXiv:2512.09106."""
        log_q = jnp.minimum(jax.nn.log_sigmoid(utilities) + jnp.log(scale), -1e-6)
        bernoulli = from_log_probs(log_q)
        return bernoulli.log_reveal - bernoulli.log_keep


@dataclass(frozen=True)
class Categorical:
    """One position, with probability softmax(utilities) over the eligible ones."""

    def draw(
        self,
        key: RowKey,
        utilities: Utilities,
        eligible: Mask,
        temperature: Scalar | float = 1.0,
    ) -> SelectionOrder:
        logits = jnp.where(eligible, utilities / temperature, -jnp.inf)
        chosen = jax.random.categorical(key, logits, mode="high")
        return (eligible & (jnp.arange(len(eligible)) == chosen)).astype(jnp.int32)

    def log_prob(self, utilities: Utilities, order: SelectionOrder, eligible: Mask) -> Scalar:
        logs = masked_log_softmax(utilities, eligible)
        one = jnp.sum(order > 0) == 1
        log_prob = jnp.where(one, jnp.sum(jnp.where(order > 0, logs, 0.0)), -jnp.inf)
        return jnp.where(jnp.any(eligible), log_prob, 0.0)

    def mode(self, key: RowKey, utilities: Utilities, eligible: Mask) -> Mask:
        return best(key, utilities, eligible)

    def scaled(self, utilities: Utilities, scale: Scalar) -> Utilities:
        return utilities  # a single position at any scale


@dataclass(frozen=True)
class PlackettLuceStop:
    """One position by softmax(utilities), then further ones without replacement until STOP is drawn.

    STOP can be drawn from the second draw on, so the set is never empty. Reference: dynamic
    Plackett-Luce sampling, Jazbec et al., arXiv:2512.09106, appendix E.

    Attributes:
      stop: the utility of STOP.
    """

    stop: float = 0.0

    def __post_init__(self) -> None:
        check_range("stop", self.stop)

    def draw(
        self,
        key: RowKey,
        utilities: Utilities,
        eligible: Mask,
        temperature: Scalar | float = 1.0,
    ) -> SelectionOrder:
        k_first, k_rest, k_stop = jax.random.split(key, 3)
        first = Categorical().draw(k_first, utilities, eligible, temperature) > 0
        noisy = utilities / temperature + jax.random.gumbel(
            k_rest, utilities.shape, jnp.float32, mode="high"
        )
        stop = self.stop / temperature + jax.random.gumbel(k_stop, (), jnp.float32, mode="high")
        drawn = first | (eligible & (noisy > stop))
        noisy = jnp.where(first, jnp.inf, jnp.where(drawn, noisy, -jnp.inf))
        ahead = jnp.sum(noisy[None, :] > noisy[:, None], axis=1)
        return jnp.where(drawn, ahead + 1, 0).astype(jnp.int32)

    def log_prob(self, utilities: Utilities, order: SelectionOrder, eligible: Mask) -> Scalar:
        """log softmax(first) + sum over the later draws, STOP included, of utility - log-sum-exp of
        what was left to draw.
        """
        lowest = jnp.finfo(utilities.dtype).min
        never = jnp.where(eligible & (order == 0), utilities, lowest)
        base = jax.nn.logsumexp(jnp.append(never, self.stop))
        last_to_first = jnp.argsort(-order)  # those not drawn at the end: they are in `base`
        turn = order[last_to_first]
        ranked = jnp.where(turn > 0, utilities[last_to_first], lowest)
        left = jnp.logaddexp(jax.lax.cumlogsumexp(ranked), base)
        others = jnp.sum(jnp.where(turn > 1, ranked - left, 0.0))
        first = Categorical().log_prob(utilities, (order == 1).astype(jnp.int32), eligible)
        return jnp.where(jnp.any(eligible), first + others + self.stop - base, 0.0)

    def mode(self, key: RowKey, utilities: Utilities, eligible: Mask) -> Mask:
        return Categorical().mode(key, utilities, eligible) | (eligible & (utilities > self.stop))

    def scaled(self, utilities: Utilities, scale: Scalar) -> Utilities:
        """Odds against STOP times `scale`."""
        return utilities + jnp.log(jnp.maximum(scale, jnp.finfo(utilities.dtype).tiny))
