"""Products of activations with a matrix that all sequences share.

`vmap` leaves the batch of sequences an axis of its own. Of such a product XLA computes the derivative by
the matrix from a transposed copy, on a CPU up to five times slower than where batch and positions are
one axis. Here `vmap` makes them one.
"""

from functools import cache
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.extend.core.primitives import dot_general_p
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

Rows = Float[Array, "rows inner"]
Matrix = Float[Array, "inner outer"]


def shared_dot_general(
    x: Array, matrix: Array, dimension_numbers: Any, precision: Any = None
) -> Array:
    """`lax.dot_general` as Flax's dense layers call it: last axes of `x`, first axes of `matrix`."""
    (axes, first), batch = dimension_numbers
    count = len(axes)
    last = tuple(range(x.ndim - count, x.ndim))
    dense = tuple(axes) == last and tuple(first) == tuple(range(count)) and not any(batch)
    if not dense or precision is not None or x.dtype != matrix.dtype:
        return lax.dot_general(x, matrix, dimension_numbers, precision=precision)
    rows, outer = x.shape[: x.ndim - count], matrix.shape[count:]
    inner = prod(matrix.shape[:count])
    flat = x.reshape(prod(rows), inner), matrix.reshape(inner, prod(outer))
    return _product.bind(*flat).reshape(*rows, *outer)


def _plain(x: Rows, matrix: Matrix) -> Float[Array, "rows outer"]:
    return lax.dot_general(x, matrix, (((1,), (0,)), ((), ())))


@cache
def _settings(dtype: jnp.dtype) -> dict[str, Any]:
    """The parameters of `dot_general_p`, which differ between versions of JAX."""
    one = jax.ShapeDtypeStruct((1, 1), dtype)
    return jax.make_jaxpr(_plain)(one, one).eqns[0].params


def _abstract(x: Any, matrix: Any) -> tuple[Any, Any]:
    return dot_general_p.abstract_eval(x, matrix, **_settings(x.dtype))


def _batched(args: tuple[Array, Array], axes: tuple[int | None, int | None]) -> tuple[Array, int]:
    x, matrix = args
    if axes[1] is not None:
        return jax.vmap(_plain, axes)(x, matrix), 0
    x = jnp.moveaxis(x, axes[0], 0)
    found = _product.bind(x.reshape(-1, x.shape[-1]), matrix)
    return found.reshape(*x.shape[:-1], matrix.shape[1]), 0


def _by_rows(cotangent: Array, x: Any, matrix: Matrix) -> Rows:
    return _product.bind(cotangent, matrix.T)


def _by_matrix(cotangent: Array, x: Rows, matrix: Any) -> Matrix:
    return lax.dot_general(x, cotangent, (((0,), (0,)), ((), ())))


_product = Primitive("shared_product")
_product.def_impl(_plain)
_product.def_effectful_abstract_eval(_abstract)
mlir.register_lowering(_product, mlir.lower_fun(_plain, multiple_results=False))
batching.primitive_batchers[_product] = _batched
ad.defbilinear(_product, _by_rows, _by_matrix)
