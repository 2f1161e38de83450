"""Parameters spread over four devices: what is computed stays the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from numpy.testing import assert_allclose, assert_array_equal
from published_world import MASK, PUBLISHED, small

from mdm_jax.denoisers.pretrained.checkpoints import load, save
from mdm_jax.denoisers.pretrained.partition import sharding
from mdm_jax.policies.heuristics import ConfidenceThreshold
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample
from mdm_jax.sharding import make_mesh

BLOCK_SPECS = {
    ("attention", "query", "weight"): P("tensor", None),
    ("attention", "out", "weight"): P(None, "tensor"),
    ("attention_norm", "scale"): P(),
    ("gate", "weight"): P("tensor", None),
    ("down", "weight"): P(None, "tensor"),
}


def mesh_of(data, tensor):
    kinds = (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh((data, tensor), ("data", "tensor"), axis_types=kinds)


def test_the_rules():
    mesh = mesh_of(2, 2)
    for path, spec in BLOCK_SPECS.items():
        found = sharding(mesh, ("block_3", *path), (8, 8)[: len(spec) or 1])
        assert found == NamedSharding(mesh, spec)
    assert sharding(mesh, ("embed",), (449, 64)).spec == P(None, None)  # 449 rows do not divide
    only_data = make_mesh()
    assert sharding(only_data, ("head",), (8, 8)).spec == P(None, None)


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("shape", [(1, 4), (2, 2)], ids=str)
def test_loaded_in_shards_and_saved_whole(name, shape, tmp_path):
    save(tmp_path / "one", *small(name))
    mesh = mesh_of(*shape)
    spread, info = load(tmp_path / "one", mesh)
    gate = spread.params["block_0"]["gate"]["weight"]
    assert gate.addressable_shards[0].data.shape == (12 // shape[1], 16)
    assert len(gate.sharding.device_set) == 4
    whole = load(tmp_path / "one").denoise
    jax.tree.map(assert_array_equal, spread.params, whole.params)
    save(tmp_path / "again", spread, info)
    files = [tmp_path / part / "model.safetensors" for part in ("one", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()


@jax.jit
def logits_of(denoise, canvases, valid):
    return jax.vmap(denoise)(canvases, valid)


@pytest.fixture(scope="module")
def spread(tmp_path_factory):
    directory = tmp_path_factory.mktemp("model") / "dream"
    save(directory, *small("dream"))
    mesh = mesh_of(2, 2)
    rows = NamedSharding(mesh, P("data"))
    return load(directory).denoise, load(directory, mesh).denoise, rows


def canvases_of(rows=4):
    tokens = np.random.default_rng(0).integers(2, 20, (rows, 12))
    tokens[:, 4:] = MASK
    return tokens


def test_logits_are_those_of_one_device(spread):
    """Batch over "data", parameters over "tensor"."""
    whole, parts, by_row = spread
    canvases = canvases_of()
    valid = np.arange(12) < np.array([12, 10, 12, 7])[:, None]
    expected = logits_of(whole, canvases, valid)
    got = logits_of(parts, jax.device_put(canvases, by_row), jax.device_put(valid, by_row))
    assert_allclose(got, expected, atol=2e-5)
    assert len(got.sharding.device_set) == 4


def test_generations_are_those_of_one_device(spread):
    """With a dual cache, so that keys and values are spread as well."""
    whole, parts, by_row = spread
    config = SamplerConfig(
        mask_id=MASK, pad_id=24, budget=8, gen_length=8, block_length=4, cache="dual"
    )
    settings = {"policy": ConfidenceThreshold(0.3), "config": config}
    keys = jax.vmap(jax.random.key)(jnp.arange(4))
    expected = sample(keys, jnp.asarray(canvases_of()), denoise=whole, **settings)
    spread_keys = jax.device_put(jax.vmap(jax.random.key)(jnp.arange(4)), by_row)
    got = sample(spread_keys, jax.device_put(canvases_of(), by_row), denoise=parts, **settings)
    assert_array_equal(got.canvas, expected.canvas)
    assert_array_equal(got.nfe, expected.nfe)
    assert len(set(np.asarray(got.nfe).tolist())) > 1
