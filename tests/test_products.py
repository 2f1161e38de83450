"""Products with a matrix that all sequences share, against `jnp.einsum`."""

from functools import partial

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from mdm_jax.products import shared_dot_general

LAYERS = {
    "one axis": ({"features": 5}, (3, 4)),
    "heads": ({"features": (2, 3)}, (3, 4)),
    "from heads": ({"features": 5, "axis": (-2, -1)}, (3, 2, 4)),
    "vector": ({"features": 5}, (4,)),
    "another axis": ({"features": 5, "axis": 0}, (3, 4)),
}
TRANSFORMED = {
    "grad of vmap": lambda f: jax.grad(lambda w, x: jnp.sum(jax.vmap(f, (None, 0))(w, x)), (0, 1)),
    "vmap of grad": lambda f: jax.vmap(jax.grad(f, (0, 1)), (None, 0)),
    "both batched": lambda f: (
        lambda w, x: jax.vmap(jax.grad(f))(jax.tree.map(lambda a: jnp.stack([a] * 6), w), x)
    ),
    "hessian": lambda f: lambda w, x: jax.hessian(f)(w, x[0]),
    "jit": lambda f: jax.jit(lambda w, x: f(w, x[0])),
    "checkpoint": lambda f: jax.grad(
        lambda w, x: jnp.sum(jax.vmap(jax.checkpoint(f), (None, 0))(w, x))
    ),
}


@pytest.mark.parametrize("change", TRANSFORMED.values(), ids=TRANSFORMED)
@pytest.mark.parametrize(("settings", "shape"), LAYERS.values(), ids=LAYERS)
def test_a_dense_layer_is_the_same_with_it_under_every_transformation(settings, shape, change):
    x = jax.random.normal(jax.random.key(0), (6, *shape))
    plain = nn.DenseGeneral(**settings)
    shared = nn.DenseGeneral(**settings, dot_general=shared_dot_general)
    params = plain.init(jax.random.key(1), x[0])

    def value(layer, params, x):
        return jnp.sum(jnp.sin(layer.apply(params, x)))

    found = [change(partial(value, layer))(params, x) for layer in (plain, shared)]
    chex.assert_trees_all_close(*found, rtol=1e-5, atol=1e-5)


def test_the_derivative_by_the_matrix_is_one_product_of_two_matrices():
    x, matrix = jnp.ones((6, 3, 4)), jnp.ones((4, 5))
    dims = (((1,), (0,)), ((), ()))
    one = partial(shared_dot_general, dimension_numbers=dims)
    sums = jax.grad(lambda m: jnp.sum(jnp.sin(jax.vmap(one, (0, None))(x, m))))
    text = str(jax.make_jaxpr(sums)(matrix))
    assert "f32[18,4]" in text and "([0], [0])" in text
