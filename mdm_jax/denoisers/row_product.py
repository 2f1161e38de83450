"""Rows times a matrix: one matrix product for all rows, under any number of `vmap`s.

`jax.vmap` of a product keeps its batch axis, so the gradient of a shared matrix is a sum over two axes,
batch and position, for which XLA's CPU backend first writes transposed copies. Here `vmap` appends
the rows of a batch to each other, and the gradient is one product of two matrices.

It is a primitive of its own because `jax.custom_batching.custom_vmap` has no reverse mode, and because
`jax.custom_vjp` under `vmap` would make a gradient of the matrix for each element of the batch.
"""

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

Rows = Float[Array, "rows inputs"]
Matrix = Float[Array, "inputs outputs"]

_product = Primitive("row_product")


def row_product(rows: Rows, matrix: Matrix) -> Float[Array, "rows outputs"]:
    """rows @ matrix, of the same type. A matrix without a batch axis is shared by all rows."""
    return _product.bind(rows, matrix)


def _abstract(rows: jax.core.ShapedArray, matrix: jax.core.ShapedArray) -> jax.core.ShapedArray:
    return jax.core.ShapedArray((rows.shape[0], matrix.shape[1]), rows.dtype)


def _batch(operands: tuple[Array, Array], axes: tuple[int | None, int | None]) -> tuple[Array, int]:
    """The product under `vmap`, and where its batch axis is."""
    rows, matrix = operands
    if axes[1] is not None:
        return jax.vmap(jnp.matmul, axes)(rows, matrix), 0
    rows = jnp.moveaxis(rows, axes[0], 0)
    flat = row_product(rows.reshape(-1, rows.shape[-1]), matrix)
    return flat.reshape(*rows.shape[:-1], matrix.shape[1]), 0


def _gradient_of_rows(gradient: Array, rows: object, matrix: Array) -> Array:
    return row_product(gradient, matrix.T)


def _gradient_of_matrix(gradient: Array, rows: Array, matrix: object) -> Array:
    return jax.lax.dot_general(rows, gradient, (((0,), (0,)), ((), ())))


_product.def_impl(jax.jit(jnp.matmul))
_product.def_abstract_eval(_abstract)
batching.primitive_batchers[_product] = _batch
ad.defbilinear(_product, _gradient_of_rows, _gradient_of_matrix)
mlir.register_lowering(_product, mlir.lower_fun(jnp.matmul, multiple_results=False))
