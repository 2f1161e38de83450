"""Products of rows and a matrix: those of `jnp.matmul`, in one piece under `vmap`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from mdm_jax.denoisers.row_product import row_product

RNG = np.random.default_rng(0)
ROWS = jnp.asarray(RNG.standard_normal((2, 3, 4, 5)), "f4")  # two batch axes, rows, inputs
MATRIX = jnp.asarray(RNG.standard_normal((5, 6)), "f4")
WEIGHTS = jnp.asarray(RNG.standard_normal((2, 3, 4, 6)), "f4")


def total(product, rows, matrix):
    """A sum that every element of every product enters with another weight."""
    products = jax.vmap(jax.vmap(product, (0, None)), (0, None))(rows, matrix)
    return jnp.sum(WEIGHTS * products)


def test_gradients_under_two_vmaps_are_those_of_matmul():
    grads = {
        product: jax.grad(partial(total, product), (0, 1))(ROWS, MATRIX)
        for product in (row_product, jnp.matmul)
    }
    jax.tree.map(partial(assert_allclose, rtol=1e-4, atol=1e-5), *grads.values())


def test_gradient_of_a_shared_matrix_is_one_product_without_batch_axes():
    jaxpr = jax.make_jaxpr(jax.grad(partial(total, row_product), 1))(ROWS, MATRIX)
    (product,) = (e for e in jaxpr.jaxpr.eqns if e.primitive.name == "dot_general")
    assert [x.aval.shape for x in product.invars] == [(24, 5), (24, 6)]
    assert product.outvars[0].aval.shape == (5, 6)


@pytest.mark.parametrize("axes", [(0, None), (None, 2), (1, 0)])
def test_either_operand_may_be_batched(axes):
    operands = [
        x if axis is None else jnp.stack([x] * 3, axis)
        for x, axis in zip((ROWS[0, 0], MATRIX), axes, strict=True)
    ]
    found = jax.vmap(row_product, axes)(*operands)
    assert_allclose(found, np.broadcast_to(ROWS[0, 0] @ MATRIX, (3, 4, 6)), rtol=1e-4, atol=1e-5)


def test_gradients_for_each_element_of_a_batch():
    def one(product, rows, matrix):
        return jnp.sum(product(rows, matrix) ** 2)

    found, expected = (
        jax.vmap(jax.grad(partial(one, product), 1), (0, None))(ROWS[0], MATRIX)
        for product in (row_product, jnp.matmul)
    )
    assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
