"""How far the sampler's distribution is from the data's, where both can be listed."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Z = 1.96  # standard errors on either side of an interval


class Estimate(NamedTuple):
    """A number with its standard error."""

    value: float
    error: float

    @property
    def low(self) -> float:
        """End of the 95 % interval."""
        return self.value - Z * self.error

    @property
    def high(self) -> float:
        """End of the 95 % interval."""
        return self.value + Z * self.error


class Divergences(NamedTuple):
    """Of the sampler's q from the data's p, nats but for the first two."""

    valid: Estimate  # probability that the sampler makes a sequence of the data, sum q
    total_variation: Estimate  # 1/2 sum |p - q|, invalid sequences included
    data_sampler: Estimate  # KL(data || sampler)
    # KL(sampler || data) of the valid sequences; it is infinite where there are invalid ones
    sampler_data: Estimate


def divergences(
    probs: Float[np.ndarray, " count"], sampled: Float[np.ndarray, "draws count"]
) -> Divergences:
    """From the probabilities of every sequence of the data.

    The sampler's distribution is the mean of `sampled` over its axis of draws: q(x | r) for random
    draws r of the policy, or the shares of sequences in independent batches. The bias that a finite
    number of draws causes is removed to first order by the jackknife, which also gives the standard
    errors: 0 for a policy that draws nothing at random. Infinite where a sequence was never made.

    Args:
      probs: p(x), positive; adds up to one.
      sampled: q(x | r) of each draw; at least two draws.
    """

    def measure(of: Callable[[np.ndarray], float]) -> Estimate:
        return jackknife(of, sampled)

    return Divergences(
        measure(lambda q: float(q.sum())),
        measure(lambda q: float(np.abs(probs - q).sum() + 1 - q.sum()) / 2),
        measure(lambda q: kl(probs, q)),
        measure(lambda q: kl(q / q.sum(), probs) if q.sum() > 0 else np.inf),
    )


def kl(p: Float[np.ndarray, " count"], q: Float[np.ndarray, " count"]) -> float:
    """sum p log p/q, nats; infinite where p is positive and q is not."""
    here = p > 0
    with np.errstate(divide="ignore"):
        return float(np.sum(p[here] * (np.log(p[here]) - np.log(q[here]))))


def jackknife(
    measure: Callable[[np.ndarray], float], draws: Float[np.ndarray, "draws *any"]
) -> Estimate:
    """A function of the mean of independent draws, its bias of order 1/draws removed.

    Reference: Quenouille (1956); Tukey (1958).
    """
    count, total = len(draws), draws.sum(axis=0)
    plain = measure(total / count)
    if not np.isfinite(plain):
        return Estimate(plain, np.inf)
    without = np.array([measure((total - draw) / (count - 1)) for draw in draws])
    if not np.isfinite(without).all():
        return Estimate(plain, np.inf)
    error = np.sqrt((count - 1) * np.mean((without - without.mean()) ** 2))
    return Estimate(float(count * plain - (count - 1) * without.mean()), float(error))
