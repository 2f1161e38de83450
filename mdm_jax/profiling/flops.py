"""Floating-point operations of a program, as XLA counts them."""

from collections.abc import Callable
from typing import Any

import jax


def program_flops(fn: Callable, *args: Any) -> float:
    """Floating-point operations of fn(*args), before optimisation; nothing is compiled or run.

    2 m k n of a product of [m, k] and [k, n], and about 1 per element of everything else. The body of
    a loop counts once, of branches the dearest; kernels that XLA does not write itself, such as
    cuDNN's attention, do not count.

    Args:
      fn: a function of pytrees. Weights must be among `args`: what it closes over becomes part of the
        program.
      args: arrays, or `jax.ShapeDtypeStruct` in their place.
    """
    return float(jax.jit(fn).lower(*args).cost_analysis()["flops"])
