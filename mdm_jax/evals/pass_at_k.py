"""pass@k: whether at least one of k generations of a prompt is right."""

from math import comb

import numpy as np
from jaxtyping import Float, Int

from mdm_jax.errors import check_range


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
