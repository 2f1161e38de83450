"""Updates are compiled without XLA's library of fused products, where there is one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax import compiling
from mdm_jax.compiling import jit_update


def loss(weights, x):
    return jnp.sum(jnp.tanh(x @ weights) ** 2)


@pytest.fixture
def arguments():
    weights, x = jnp.linspace(-1, 1, 64 * 64), jnp.linspace(0, 1, 256 * 64)
    return weights.reshape(64, 64), x.reshape(256, 64)


def test_results_are_those_of_jit(arguments):
    np.testing.assert_allclose(
        jit_update(jax.grad(loss))(*arguments),
        jax.jit(jax.grad(loss))(*arguments),
        rtol=1e-5,
        atol=1e-4,
    )


def test_no_product_is_left_to_the_library(arguments):
    def text(compiled):
        return compiled.lower(*arguments).compile().as_text()

    if "ynn" not in text(jax.jit(jax.grad(loss))):
        pytest.skip("this version of XLA does not use the library")
    assert "ynn" not in text(jit_update(jax.grad(loss)))


def test_keyword_arguments_are_those_of_jit(arguments):
    update = jit_update(lambda weights, x: weights - x.mean(), donate_argnums=0)
    weights, x = arguments
    update(weights, x)
    assert weights.is_deleted()


def test_options_are_for_a_cpu_alone():
    assert compiling._options("gpu") is None
    assert compiling._options("tpu") is None


def test_an_xla_that_does_not_know_the_option_compiles_without(monkeypatch):
    monkeypatch.setattr(compiling, "WITHOUT_LIBRARY", {"xla_cpu_no_such_option": ""})
    assert compiling._options.__wrapped__("cpu") is None
