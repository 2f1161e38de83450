"""Operations of programs, against closed forms."""

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmark import Config
from mdm_jax.denoisers.base import Bound
from mdm_jax.profiling.flops import program_flops


def test_matrix_products():
    a, b = jnp.ones((2, 3)), jnp.ones((3, 5))
    one = 2 * 2 * 3 * 5
    assert program_flops(jnp.matmul, a, b) == one
    assert program_flops(jax.vmap(jnp.matmul, (0, None)), jnp.ones((4, 2, 3)), b) == 4 * one
    assert program_flops(lambda a, b: a @ b + 1, a, b) == one + 2 * 5
    shapes = jax.ShapeDtypeStruct((2, 3), "bfloat16"), jax.ShapeDtypeStruct((3, 5), "bfloat16")
    assert program_flops(jnp.matmul, *shapes) == one


def test_a_denoiser_call_is_its_products_and_little_else():
    work = Config().workload
    canvas, valid = work.canvases[0], jnp.ones(work.length, bool)
    counted = work.batch_size * program_flops(Bound.__call__, work.denoise, canvas, valid)
    assert work.forward_flops() < counted
    assert counted == pytest.approx(work.forward_flops(), rel=0.03)
