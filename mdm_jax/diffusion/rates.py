"""Masking rates that depend on the position and on the value of the token.

alpha_iv(t) = 1 - t^w_iv: the probability that at time t the token v at position i is unmasked. A masked
one is revealed at rate w_iv / t: the larger w, the earlier in generation. One exponent for all is
`schedules.Polynomial`.

The denoiser knows no time. Its logits are what the *other* positions say of a token, and the fact that
this one is still masked multiplies its odds by t^w: mu_t(v) = softmax(logits + w log t). That is exact
where masked tokens are independent given the revealed ones, and it is nothing where all w are equal.

Reference: GenMD4, arXiv:2406.04329, section 6, with w for each token value; the tilt is ours.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Count, Logits, Mask, Scalar, Tokens


@pytree_dataclass
class Rates:
    """The exponents w > 0 of each position and token value; an axis of 1 is one for all of them.

    [1, vocab]: by token, GenMD4. [length, 1]: by position. [length, vocab]: by both. [1, 1]: MD4.
    """

    exponents: Float[Array, "positions values"]

    def at(self, positions: Int[Array, " wanted"]) -> "Rates":
        """The rates of some positions."""
        return self if len(self.exponents) == 1 else Rates(self.exponents[positions])

    def of(self, tokens: Tokens) -> Float[Array, " length"]:
        """The exponent of each token at its position."""
        rows = jnp.arange(len(tokens)) if len(self.exponents) > 1 else jnp.zeros_like(tokens)
        return self.exponents[rows, tokens if self.exponents.shape[1] > 1 else 0]


class Shown(NamedTuple):
    """What a denoiser says of those positions of a canvas that may be masked."""

    positions: Int[Array, " shown"]
    logits: Logits
    rates: Rates  # at which these positions are revealed


def log_belief(rates: Rates, logits: Logits, log_t: Scalar) -> Logits:
    """log mu_t: what the token of each position is, given that it is masked at time t."""
    return jax.nn.log_softmax(logits.astype(jnp.float32) + rates.exponents * log_t, axis=-1)


def log_time_of_share(
    exponents: Float[Array, " length"], maskable: Mask, share: Scalar
) -> tuple[Scalar, Scalar]:
    """log t at which a share of the tokens is masked on average, mean_i t^w_i = share, by bisection.

    At uniform times a token of small w is masked where no time is ever drawn: half of what it adds to a
    bound lies below t = 2^(-1/w). At uniform shares every w is seen; equal ones are MD4's, linear.

    Args:
      exponents: of the tokens of a sequence.
      share: in (0, 1].

    Returns:
      log t, and d log t / d share, of which no gradient is wanted.
    """
    own = jnp.where(maskable | ~jnp.any(maskable), jax.lax.stop_gradient(exponents), jnp.nan)

    def halve(_: Count, bracket: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
        low, high = bracket
        middle = 0.5 * (low + high)
        fewer = jnp.nanmean(jnp.exp(own * middle)) < share
        return jnp.where(fewer, middle, low), jnp.where(fewer, high, middle)

    ends = jnp.log(share) / jnp.nanmin(own), jnp.log(share) / jnp.nanmax(own)
    low, high = jax.lax.fori_loop(0, 40, halve, ends)
    log_t = 0.5 * (low + high)
    return log_t, 1.0 / jnp.nanmean(own * jnp.exp(own * log_t))


def reveal_logits(
    rates: Rates, logits: Logits, t: Scalar, s: Scalar
) -> tuple[Logits, Float[Array, " length"]]:
    """One step of the reverse process, from time t to the earlier s.

    A masked position is revealed as v with probability mu_t(v) (1 - (s/t)^w_v). So it is revealed with
    probability 1 - sum_v mu_t(v) (s/t)^w_v, and its token then follows mu_t, tilted to tokens that are
    revealed early. Reference: arXiv:2406.04329, Eq. 11.

    Returns:
      Unnormalised log-probabilities of the token of each position if it is revealed, and the probability
      that it is.
    """
    leaves = jnp.log(-jnp.expm1(rates.exponents * jnp.log(s / t)))
    tilted = log_belief(rates, logits, jnp.log(t)) + leaves
    probability = jnp.exp(jax.nn.logsumexp(tilted, axis=-1))
    return tilted, jnp.where(s <= 0, 1.0, probability)
