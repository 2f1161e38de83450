"""How many positions to reveal at each call, where the positions are random: exact loss, best counts.

With h(k) = E[H(X_j | X_S)] over random sets S of k positions and j outside of S, counts m_1, ..., m_T
with k_t revealed before call t lose on average over orders

  KL(data || sampler) = sum_t sum_{i = k_t}^{k_t + m_t - 1} (h(k_t) - h(i)),

a left Riemann sum of h minus the sum of h. So the best counts follow from dynamic programming, and h is
what every likelihood evaluation measures: nats per masked token with exactly k revealed.

Reference: arXiv:2511.04647, arXiv:2510.25544 (information profile), in the form derived for this project.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mdm_jax.errors import check_range

Profile = Float[np.ndarray, " length"]  # h(0), ..., h(length - 1), nats


def excess_nats(profile: Profile, counts: Sequence[int]) -> float:
    """What calls with these counts lose, nats per sequence.

    Raises:
      ValueError: counts that do not add up to the length, or are below 1.
    """
    if sum(counts) != len(profile) or min(counts) < 1:
        raise ValueError(f"counts {list(counts)} do not share out {len(profile)} positions")
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return float(np.dot(counts, profile[starts]) - profile.sum())


def optimal_counts(profile: Profile, steps: int) -> tuple[int, ...]:
    """The counts of `steps` calls that lose least, by dynamic programming in O(length^2 steps).

    Raises:
      ValueError: fewer steps than 1, or more than positions.
    """
    length = len(profile)
    check_range("steps", steps, 1, length)
    size = np.arange(length)[None, :] - np.arange(length)[:, None] + 1  # first, last -> count
    cost = np.where(size > 0, size * profile[:, None], np.inf)
    rest = np.append(np.full(length, np.inf), 0.0)  # least cost of revealing k, ..., length - 1
    choices = []
    for _ in range(steps):
        totals = cost + rest[1:]
        choices.append(np.argmin(totals, axis=1))
        rest = np.append(np.min(totals, axis=1), np.inf)
    counts, first = [], 0
    for last_of in reversed(choices):
        last = int(last_of[first])
        counts.append(last - first + 1)
        first = last + 1
    return tuple(counts)
