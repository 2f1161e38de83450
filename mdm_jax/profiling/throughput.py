"""Tokens per second and per denoiser call, and the matrix products behind them."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int

from mdm_jax.evals.store import Generations
from mdm_jax.tasks.base import Vocabulary


class Throughput(NamedTuple):
    """Speed of generation; rates are None where no batch but the one that compiled was timed.

    Canvas tokens are all positions that were generated, useful ones those before the first EOS.
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
    """The part of each response before its first EOS: `canvas.before_eos` for many rows on the host."""
    if vocabulary.eos_id is None:
        return is_response
    return is_response & (np.cumsum(is_response & (tokens == vocabulary.eos_id), axis=1) == 0)


def matmul_flops(fn: Callable, *args: Any) -> float:
    """Floating-point operations of the matrix products in fn(*args), read off its program.

    A product of [m, k] and [k, n] has 2 m k n. A scan counts every turn, a loop of unknown length
    one, of branches the dearest. Kernels that are no plain product, such as cuDNN's attention, are not
    counted.
    """
    return _count(jax.make_jaxpr(fn)(*args).jaxpr)


def _count(jaxpr: Any) -> float:
    return sum(map(_count_one, jaxpr.eqns), 0.0)


def _count_one(eqn: Any) -> float:
    if eqn.primitive.name == "dot_general":
        (summed, _), _ = eqn.params["dimension_numbers"]
        shape = eqn.invars[0].aval.shape
        return 2.0 * math.prod(eqn.outvars[0].aval.shape) * math.prod(shape[i] for i in summed)
    inner = [_count(jaxpr) for value in eqn.params.values() for jaxpr in _programs(value)]
    total = max(inner, default=0.0) if eqn.primitive.name == "cond" else sum(inner, 0.0)
    return total * eqn.params.get("length", 1) if eqn.primitive.name == "scan" else total


def _programs(value: Any) -> Iterator[Any]:
    """The programs among the parameters of an operation."""
    for one in value if isinstance(value, tuple | list) else (value,):
        one = getattr(one, "jaxpr", one)
        if hasattr(one, "eqns"):
            yield one
