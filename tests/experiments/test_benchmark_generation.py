"""The benchmark of generation: operations and bytes by other means, and one small run."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmark_generation import PRESETS, Config, run
from mdm_jax.denoisers.base import Bound, bind
from mdm_jax.denoisers.pretrained.network import PretrainedTransformer
from mdm_jax.profiling.denoiser_cost import call_bytes, call_flops
from mdm_jax.profiling.flops import program_flops
from mdm_jax.profiling.generation_cost import random_params

TINY = PRESETS["tiny"]
VALID = jnp.ones(20, bool)


@pytest.fixture(scope="module")
def denoise():
    module = PretrainedTransformer(replace(TINY.model, heads=4, kv_heads=2))
    return bind(module, random_params(module, jax.random.key(0)))


def test_products_are_those_of_the_program(denoise):
    """Elementwise operations add a few percent at this width."""
    canvas, block = jnp.zeros(20, int), jnp.arange(12, 20)
    products, counted = (
        call_flops(denoise, 3, 20, 20, 8),
        3 * program_flops(Bound.__call__, denoise, canvas, VALID, block),
    )
    assert products < counted == pytest.approx(products, rel=0.2)

    def cached(denoise, tokens, kv_cache):
        return denoise.read(denoise.extend(tokens, jnp.int32(12), VALID, kv_cache), block)[0]

    kv_cache = denoise.prefill(canvas, VALID)
    products, counted = (
        call_flops(denoise, 1, 20, 8, 8),
        program_flops(cached, denoise, canvas[12:], kv_cache),
    )
    assert products < counted == pytest.approx(products, rel=0.2)


def test_bytes_by_hand(denoise):
    """Weights but the embedding, once; keys and values of what is not fed, for each row."""
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * 32
    weights = 4 * (2 * layer + 32 + 64 * 32)
    assert call_bytes(denoise, 1, 20, 20) == weights
    assert call_bytes(denoise, 3, 20, 8) == weights + 4 * 3 * 12 * 2 * 2 * 16


def test_random_weights_have_the_configured_type():
    module = PretrainedTransformer(replace(TINY.model, dtype="bfloat16"))
    params = random_params(module, jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("bfloat16")}
    assert jnp.std(params["head"].astype(jnp.float32)) == pytest.approx(0.02, rel=0.1)
    assert (params["final_norm"]["scale"] == 1).all()


def test_every_job_compiles_once():
    generations, calls = run(replace(TINY, caches=("dual",), batch_sizes=(2,)))
    assert [line.policy for line in generations] == ["fixed steps", "threshold"]
    for line in generations:
        assert (line.calls, line.compilations, line.batch, line.cache) == (8, 1, 2, "dual")
        assert line.seconds > 0 and line.compile_seconds > 0
    assert [line.kind for line in calls] == ["full canvas", "cached block"]
    for line in calls:
        assert min(line.milliseconds, line.share_of_peak_flops, line.share_of_peak_bytes) > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"block_length": 24}, "block_length 24 does not divide gen_length 128"),
        ({"steps": 3}, "steps 3 are less than one call for each block"),
        ({"block_length": 0}, "block_length 0 and gen_length 128 must be at least 1"),
        ({"batch_sizes": (0,)}, "batch_sizes must be at least 1"),
    ],
)
def test_settings_that_mean_nothing(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)
