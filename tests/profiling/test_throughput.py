"""Rates by hand, and operations counted by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmark import Config, forward_flops
from mdm_jax.denoisers.transformer import Transformer
from mdm_jax.evals.store import Generations
from mdm_jax.profiling.throughput import live, matmul_flops, throughput
from mdm_jax.tasks.base import Vocabulary

WORDS = Vocabulary(size=5, eos_id=0)
MASK, PAD = WORDS.mask_id, WORDS.pad_id
CANVASES = np.array([[0, 2, MASK, MASK, MASK, MASK], [3, MASK, MASK, MASK, MASK, PAD]] * 2)


def generated(seconds):
    tokens = np.array([[0, 2, 1, 2, 0, 4], [3, 1, 1, 1, 1, PAD]])
    return Generations(
        index=np.array([0, 3]),
        tokens=tokens,
        text=["", ""],
        nfe=np.array([2, 4]),
        passes=np.array([4, 4]),
        seconds=np.array(seconds),
        revealed_at=tokens,
    )


def test_rates():
    speed = throughput(generated([0.5, 0.5]), CANVASES, WORDS)
    assert speed.useful_tokens == (2 + 4) / 2  # an EOS in the prompt ends nothing
    assert (speed.canvas_tokens_per_call, speed.useful_tokens_per_call) == (8 / 6, 6 / 6)
    assert (speed.canvas_tokens_per_second, speed.useful_tokens_per_second) == (8.0, 6.0)
    assert speed.passes_per_second == 8.0


def test_what_compiled_has_no_rate():
    speed = throughput(generated([np.nan, 0.5]), CANVASES, WORDS)
    assert (speed.canvas_tokens_per_second, speed.useful_tokens_per_second) == (8.0, 8.0)
    untimed = throughput(generated([np.nan, np.nan]), CANVASES, WORDS)
    assert untimed[3:] == (None, None, None) and untimed[:3] == speed[:3]


def test_without_an_eos_all_is_live():
    is_response = CANVASES == MASK
    np.testing.assert_array_equal(live(CANVASES, is_response, Vocabulary(size=5)), is_response)


def test_products_in_loops_and_branches():
    a, b = jnp.ones((2, 3)), jnp.ones((3, 5))
    one = 2 * 2 * 3 * 5

    def scanned(a, b):
        return jax.lax.scan(lambda c, _: (c + (a @ b).sum(), None), 0.0, length=7)[0]

    def branched(a, b):
        return jax.lax.cond(a[0, 0] > 0, lambda: (a @ b) @ b.T, lambda: a)

    assert matmul_flops(jnp.matmul, a, b) == one
    assert matmul_flops(jax.jit(lambda a, b: a @ b + 1), a, b) == one
    assert matmul_flops(jax.vmap(jnp.matmul, (0, None)), jnp.ones((4, 2, 3)), b) == 4 * one
    assert matmul_flops(scanned, a, b) == 7 * one
    assert matmul_flops(branched, a, b) == 2 * one
    assert matmul_flops(jnp.add, a, a) == 0


def test_a_denoiser_call_as_in_the_closed_form():
    config = Config()
    module = Transformer(config.model, config.vocab)
    canvas = jax.ShapeDtypeStruct((config.length,), jnp.int32)
    valid = jax.ShapeDtypeStruct((config.length,), bool)
    params = jax.eval_shape(module.init, jax.random.key(0), canvas, valid)
    counted = matmul_flops(module.apply, params, canvas, valid)
    assert config.batch_size * counted == pytest.approx(forward_flops(config), rel=1e-3)
