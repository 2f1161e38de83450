"""GenMD4: masking rates that are learned together with the denoiser, by the same bound.

The bound is the Kullback-Leibler divergence of two Poisson processes, summed over masked positions,

  L(x) = E_t E_z sum_i (1/t) [w_x (-log mu_t(x)) - w_x + sum_v w_v mu_t(v)],

with x the token at position i. It is at least 0 for every mu, and with one w for all it is MD4's.
`diffusion.context_rates` has the form in which w depends on the whole sequence. The
exponents also decide which masks are drawn, so their gradient has a score term; two masks of a sequence
at the same time are each other's baseline.

Reference: MD4, arXiv:2406.04329, section 6 and Eq. 12. Time runs over (0, 1] and alpha from 1 to 0,
without the paper's cut-off at small times: no reconstruction term, no prior term. Which times are drawn
is ours: such that the expected share of masked tokens is uniform.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdm_jax.diffusion.context_rates import ContextRates
from mdm_jax.diffusion.rates import Rates, Shown, log_belief, log_time_of_share
from mdm_jax.errors import check_range
from mdm_jax.types import Mask, RowKey, Scalar, Tokens

RATES = "rates"  # name of the parameters of the rates, beside those of the network
ShownOf = Callable[[Mask], Shown]  # what is known of a sequence with this mask


@dataclass(frozen=True)
class Genmd4:
    """Rates that are learned: w = softplus(start' + speed * parameter), w = start before training.

    Two masks of each sequence, so an update costs two of `Continuous`. A `speed` of 0 leaves w as it is:
    MD4 with as many masks.

    Args:
      depends_on: what has a rate of its own: every token value, as in GenMD4; every position; both; or
        every position in its context, as in LoMDM, which costs a third call.
      start: w before training.
      speed: of w, as a multiple of the optimiser's learning rate.
    """

    depends_on: Literal["token", "position", "both", "context"] = "token"
    start: float = 1.0
    speed: float = 1.0

    def __post_init__(self) -> None:
        check_range("start", self.start, above=0, high=100)
        check_range("speed", self.speed, 0)

    def init(self, length: int, vocab: int, features: int) -> Float[np.ndarray, "_ _"]:
        """The parameters before training; `features` of the denoiser's hidden states."""
        shape = {"token": (1, vocab), "position": (length, 1), "both": (length, vocab)}
        return np.zeros((shape | {"context": (2, features + 1)})[self.depends_on], np.float32)

    def rates(self, parameters: Float[Array | np.ndarray, "_ _"]) -> Rates | ContextRates:
        """The rates with these parameters."""
        before, scaled = math.log(math.expm1(self.start)), self.speed * parameters
        if self.depends_on == "context":
            return ContextRates(jnp.asarray(scaled), before)
        return Rates(jax.nn.softplus(before + scaled))


class MaskTerms(NamedTuple):
    """What one mask of a sequence says."""

    bound: Float[Array, " length"]  # the part of each position, nats; 0 where it is not masked
    nll: Float[Array, " length"]  # -log mu_t(token), nats, without a weight
    is_masked: Mask
    log_draw: Scalar  # log-probability of the mask


def mask_terms(
    key: RowKey, tokens: Tokens, maskable: Mask, share: Scalar, rates: Rates, shown_of: ShownOf
) -> MaskTerms:
    """One mask of a share of the tokens on average, and its terms of the bound.

    With `share` uniform in (0, 1] the expected sum of the terms is the bound.
    """
    tokens = jnp.where(maskable, tokens, 0)  # padding has no rate
    log_t, width = log_time_of_share(rates.of(tokens), maskable, share)
    masked = rates.of(tokens) * log_t  # log-probability, at each position
    is_masked = maskable & (jnp.log(jax.random.uniform(key, tokens.shape, jnp.float32)) < masked)
    shown = shown_of(is_masked)
    positions, true = shown.positions, rates.of(tokens)[shown.positions]
    terms, nll = poisson_terms(true, shown, tokens[positions], log_t)
    found = jnp.where(is_masked[positions], jnp.stack([width * terms, nll]), 0.0)
    bound, nll = jnp.zeros((2, len(tokens)), jnp.float32).at[:, positions].set(found)
    kept = maskable & ~is_masked
    log_kept = jnp.log(-jnp.expm1(jnp.where(kept, masked, -1.0)))
    log_draw = jnp.sum(jnp.where(is_masked, masked, jnp.where(kept, log_kept, 0.0)))
    return MaskTerms(bound, nll, is_masked, log_draw)


def poisson_terms(
    true: Float[Array, " shown"], shown: Shown, tokens: Int[Array, " shown"], log_t: Scalar
) -> tuple[Float[Array, " shown"], Float[Array, " shown"]]:
    """t times the bound's integrand if each position is masked, and -log mu_t(token), nats.

    Args:
      true: exponents that the tokens were masked by.
    """
    rates, log_mu = shown.rates, log_belief(shown.rates, shown.logits, log_t)
    nll = -jnp.take_along_axis(log_mu, tokens[:, None], axis=-1)[:, 0]
    excess = jnp.log(true) - jnp.log(rates.of(tokens))  # 0 but where rates depend on the context
    expected = jnp.sum(rates.exponents * jnp.exp(log_mu), axis=-1)
    return true * (nll + excess) - true + expected, nll


def two_masks(
    key: RowKey, tokens: Tokens, maskable: Mask, share: Scalar, rates: Rates, shown_of: ShownOf
) -> tuple[Scalar, MaskTerms]:
    """Two masks at the same time: an estimate of the bound, whose gradient is one of its gradient.

    Beside the derivative of the mean of both, L1 and L2, the gradient has the score term
    (L1 - L2) grad (log q1 - log q2) / 2; its value is left out of the estimate.

    Returns:
      The bound, nats per sequence, and the terms of both masks, [2, ...].
    """
    terms = jax.vmap(mask_terms, in_axes=(0, None, None, None, None, None))(
        jax.random.split(key), tokens, maskable, share, rates, shown_of
    )
    totals, log_draw = jnp.sum(terms.bound, axis=-1), terms.log_draw
    score = 0.5 * jax.lax.stop_gradient(totals[0] - totals[1]) * (log_draw[0] - log_draw[1])
    return jnp.mean(totals) + score - jax.lax.stop_gradient(score), terms
