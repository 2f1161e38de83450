"""How updates are compiled whose time is spent in backward passes."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax

# XLA on a CPU hands products and sums to a library and keeps every input of it as an array of its own,
# broadcast scales included. Where there is a backward pass that costs more than the library saves.
WITHOUT_LIBRARY = {"xla_cpu_experimental_ynn_fusion_type": ""}


def jit_update(update: Callable[..., Any], **kwargs: Any) -> Callable[..., Any]:
    """`jax.jit` of a program whose time is spent in backward passes; not to be called inside another.

    Args:
      kwargs: of `jax.jit`.
    """
    return jax.jit(update, compiler_options=_options(jax.default_backend()), **kwargs)


@cache
def _options(backend: str) -> dict[str, str] | None:
    """Options of XLA, where it is a CPU's and this version of it knows them."""
    if backend != "cpu":
        return None
    try:
        jax.jit(lambda: 0, compiler_options=WITHOUT_LIBRARY).lower().compile()
    except jax.errors.JaxRuntimeError:
        return None
    return WITHOUT_LIBRARY
