"""pass@k: whether at least one of k generations of a prompt is right."""

from collections.abc import Sequence
from math import comb
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mdm_jax.errors import check_range
from mdm_jax.evals.intervals import mean_interval


class PassAtK(NamedTuple):
    """Share of prompts that one of k generations solves, with its 95 % interval over prompts."""

    k: int
    value: float
    low: float
    high: float


def pass_at_k(
    correct: Int[np.ndarray, " prompts"], total: int, k: int
) -> Float[np.ndarray, " prompts"]:
    """1 - C(total - correct, k) / C(total, k) of each prompt: unbiased for the probability that one of k
    independent generations is right, from `total` of them.

    Papers report the mean over prompts; `intervals.mean_interval` has its interval. A learned order is
    to be judged by pass@k beside accuracy: orders that start with what is certain can lower it
    (arXiv:2601.15165).

    Args:
      correct: right generations of each prompt.
      total: generations of each prompt, at least k.

    Raises:
      MdmError: k is not in 1..total.

    Reference: Chen et al., arXiv:2107.03374, Eq. 1.
    """
    check_range("k", k, 1, total)
    chances = [1 - comb(total - right, k) / comb(total, k) for right in range(total + 1)]
    return np.array(chances)[correct]


def pass_at_each(
    correct: Sequence[Bool[np.ndarray, " prompts"]], ks: Sequence[int]
) -> list[PassAtK]:
    """pass@k at several k from independent generations of the same prompts.

    Args:
      correct: of each draw, which prompts it solves.
      ks: each at most the number of draws.

    Raises:
      MdmError: a k that is larger.
    """
    right, found = np.sum(correct, axis=0), []
    for k in ks:
        chances = pass_at_k(right, len(correct), k)
        found.append(PassAtK(k, float(chances.mean()), *mean_interval(chances)))
    return found
