"""Chunks: what a function of rows gives is the same, in whatever pieces and on whatever devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax import sharding
from mdm_jax.chunks import canvases_at_once, map_batches, map_rows, sum_of_chunks


def noisy(row):
    """Draws of its own for each row, in a map inside the map."""
    key, number = row
    k_one, k_more = jax.random.split(key)
    keys = jax.random.split(k_more, 5)
    inside = map_rows(lambda k: jax.random.normal(k) * number, keys, 2)
    return {"draws": inside, "sum": jnp.sum(inside) + jax.random.normal(k_one)}


@pytest.mark.reuses_keys  # the same rows in pieces of several sizes
@pytest.mark.parametrize("size", [1, 3, 4, 7, 100])
def test_pieces_change_nothing(size):
    rows = jax.random.split(jax.random.key(0), 7), jnp.arange(7.0)
    found = jax.jit(lambda rows: map_rows(noisy, rows, size))(rows)
    jax.tree.map(np.testing.assert_array_equal, found, jax.jit(jax.vmap(noisy))(rows))


@pytest.mark.parametrize("recompute", [False, True])
def test_derivatives_of_pieces_are_those_of_the_whole(recompute):
    rows = jnp.linspace(0.1, 1.0, 10)

    def loss(weight, size):
        return jnp.sum(map_rows(lambda x: jnp.sin(weight * x), rows, size, recompute) ** 2)

    pieces, whole = (jax.jit(jax.grad(loss), static_argnums=1)(2.0, size) for size in (3, 10))
    np.testing.assert_allclose(pieces, whole, rtol=1e-6)


def test_a_sum_of_chunks_and_its_gradient_are_those_of_the_whole():
    rows = jnp.linspace(0.1, 1.0, 12)

    def of_rows(params, rows):
        values = jnp.sin(params["weight"] * rows) + params["bias"]
        return jnp.sum(values), values

    def loss(params, chunks):
        total, values = sum_of_chunks(of_rows, params, chunks)
        return total**2, values.ravel()

    params, run = {"weight": 2.0, "bias": 0.5}, jax.jit(jax.value_and_grad(loss, has_aux=True))
    pieces, whole = (run(params, rows.reshape(shape)) for shape in ((4, 3), (1, 12)))
    expected = jax.value_and_grad(lambda params: of_rows(params, rows)[0] ** 2)(params)
    for (value, rest), gradient in (pieces, whole):
        np.testing.assert_allclose(value, expected[0], rtol=1e-6)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), gradient, expected[1])
        np.testing.assert_allclose(rest, of_rows(params, rows)[1], rtol=1e-6)
    np.testing.assert_allclose(loss(params, rows.reshape(4, 3))[0], expected[0], rtol=1e-6)


def test_rows_stay_on_their_device():
    mesh = sharding.make_mesh()
    rows = sharding.shard(np.arange(16.0), sharding.by_row(mesh))
    run = jax.jit(lambda rows: map_batches(jnp.cos, rows, 2 * mesh.size))
    text = run.lower(rows).compile().as_text()
    assert "while" in text
    assert not any(word in text for word in ("all-gather", "all-to-all", "collective-permute"))
    np.testing.assert_allclose(run(rows), np.cos(np.arange(16.0)), rtol=1e-6)


@pytest.mark.parametrize(
    ("task", "shape", "most"),
    [
        ("4x4 Sudoku", (16, 5), 2048),
        ("9x9 Sudoku", (81, 10), 404),
        ("GSM8K from scratch", (416, 2050, 224), 78),
        ("LLaDA-8B", (512, 126_464, 256), 4),
        ("a whole canvas of LLaDA-8B", (4096, 126_464), 1),
    ],
)
def test_the_rule(task, shape, most):
    """Small tasks in one piece; of LLaDA's logits half a gigabyte."""
    assert canvases_at_once(*shape) == most
