"""Tokens per second and per denoiser call of stored generations."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from mdm_jax.evals.store import Generations
from mdm_jax.tasks.base import Vocabulary


class Throughput(NamedTuple):
    """Speed of generation; rates are None where no batch but the one that compiled was timed.

    Canvas tokens are all positions that were generated, useful ones those before the end of the response.
    """

    useful_tokens: float  # mean of a sequence
    canvas_tokens_per_call: float  # over the denoiser calls that the sequences needed
    useful_tokens_per_call: float
    canvas_tokens_per_second: float | None
    useful_tokens_per_second: float | None
    passes_per_second: float | None  # of one row of a batch


def throughput(
    found: Generations, canvases: Int[np.ndarray, "n length"], vocabulary: Vocabulary
) -> Throughput:
    """The speed of stored generations.

    Args:
      found: generations.
      canvases: the prompts, by index.
      vocabulary: of the task.
    """
    is_response = canvases[found.index] == vocabulary.mask_id
    canvas, useful = (
        mask.sum(1) for mask in (is_response, live(found.tokens, is_response, vocabulary))
    )
    timed = np.isfinite(found.seconds)
    seconds = found.seconds[timed].sum()

    def rate(amount: Int[np.ndarray, " n"]) -> float | None:
        return float(amount[timed].sum() / seconds) if seconds > 0 else None

    return Throughput(
        useful_tokens=float(useful.mean()),
        canvas_tokens_per_call=float(canvas.sum() / found.nfe.sum()),
        useful_tokens_per_call=float(useful.sum() / found.nfe.sum()),
        canvas_tokens_per_second=rate(canvas),
        useful_tokens_per_second=rate(useful),
        passes_per_second=rate(found.passes),
    )


def live(
    tokens: Int[np.ndarray, "n length"],
    is_response: Bool[np.ndarray, "n length"],
    vocabulary: Vocabulary,
) -> Bool[np.ndarray, "n length"]:
    """The part of each response before the first id that ends it."""
    ends = is_response & np.isin(tokens, vocabulary.ends)
    return is_response & (np.cumsum(ends, axis=1) == 0)
