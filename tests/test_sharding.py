"""What is computed does not depend on the devices: sampling exactly, training to rounding."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P
from numpy.testing import assert_allclose, assert_array_equal

from mdm_jax.denoisers.base import bind
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.diffusion.corruption import row_keys, stratified_times
from mdm_jax.diffusion.objectives import AnyOrder
from mdm_jax.policies.heuristics import Ancestral, EntropyBound, TopConfidence
from mdm_jax.policies.switch import as_switch
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample
from mdm_jax.sharding import (
    by_row,
    check_batch,
    device_map,
    make_mesh,
    pmap_map,
    replicated,
    shard,
    shard_largest_axis,
    to_host,
    vmap_map,
)
from mdm_jax.training.losses import CanvasIds, TokenBatch, denoising_loss
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import accumulate, init_state, train_step

VOCAB, LENGTH, ROWS = 4, 8, 8
CONFIG = SamplerConfig(mask_id=VOCAB, pad_id=VOCAB + 1, budget=LENGTH, temperature=1.0)
ZOO = as_switch((TopConfidence(3), Ancestral(4), EntropyBound(1.2)))


def mesh_of(devices):
    return jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )


@pytest.fixture(scope="module")
def network():
    module = Transformer(TransformerConfig(width=16, depth=1, heads=2, max_length=LENGTH), VOCAB)
    canvas = jnp.zeros(LENGTH, int)
    shapes = jax.eval_shape(module.init, jax.random.key(0), canvas, canvas == 0)["params"]
    rng = np.random.default_rng(0)
    return module, jax.tree.map(lambda s: jnp.asarray(0.5 * rng.normal(size=s.shape), "f4"), shapes)


def generate(shared, keys, canvases):
    return sample(keys, canvases, denoise=shared[0], policy=shared[1], config=CONFIG)


def inputs(indices):
    """Rows by their index: a clue in a place of its own, and the row's own key."""
    canvases = np.full((len(indices), LENGTH), VOCAB)
    canvases[np.arange(len(indices)), indices % LENGTH] = indices % VOCAB
    return row_keys(jax.random.key(0), jnp.asarray(indices)), jnp.asarray(canvases)


MAPS = {
    "device_map, 4": lambda: device_map(generate, mesh_of(4)),
    "device_map, 2": lambda: device_map(generate, mesh_of(2)),
    "device_map, 1": lambda: device_map(generate, mesh_of(1)),
    "pmap, 4": lambda: pmap_map(generate),
}


@pytest.fixture(scope="module")
def on_one_device(network):
    with jax.debug_key_reuse(True):
        run = vmap_map(generate)
        shared = [(bind(*network), policy) for policy in ZOO]
        return [jax.device_get(run(one, *inputs(np.arange(ROWS)))) for one in shared]


@pytest.mark.parametrize("name", MAPS)
def test_same_rows_on_any_devices(network, on_one_device, name):
    mapped = MAPS[name]()
    orders = [np.arange(ROWS), np.random.default_rng(1).permutation(ROWS)]
    for policy, expected in zip(ZOO, on_one_device, strict=True):
        for order in orders:
            found = mapped((bind(*network), policy), *inputs(order))
            rows = jax.tree.map(lambda leaf, order=order: leaf[order], expected)
            rows = rows._replace(passes=found.passes)  # of a device's own rows
            jax.tree.map(assert_array_equal, found, rows)


def test_the_rows_are_worth_comparing(on_one_device):
    """Canvases, costs and orders differ between rows, and between policies."""
    assert len({row.tobytes() for one in on_one_device for row in one.canvas}) > ROWS
    assert np.ptp(on_one_device[2].nfe) > 0
    assert len({one.nfe.tobytes() for one in on_one_device}) == 3
    assert all((one.canvas < VOCAB).all() for one in on_one_device)


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_same_rows_in_any_batch(network, on_one_device, batch):
    order = np.array([6, 1, 4, 0, 3])[:batch]
    found = vmap_map(generate)((bind(*network), ZOO[2]), *inputs(order))
    jax.tree.map(lambda f, e: assert_array_equal(f, e[order]), found, on_one_device[2])


def test_batches_that_do_not_divide(network):
    message = "a batch of 6 cannot be shared by 4 devices; use a positive multiple of 4"
    for mapped in (device_map(generate, mesh_of(4)), pmap_map(generate)):
        with pytest.raises(ValueError, match=message):
            mapped((bind(*network), ZOO[0]), *inputs(np.arange(6)))
    with pytest.raises(ValueError, match="a batch of 0"):
        check_batch(0, 1)
    check_batch(8, 4)


def test_mesh_has_all_devices():
    mesh = make_mesh()
    assert isinstance(mesh, Mesh) and mesh.axis_names == ("data",)
    assert list(mesh.devices.flat) == jax.devices() and mesh.size == 4


def test_largest_axis_that_divides_is_split():
    mesh = mesh_of(4)
    shapes = {
        "wide": (8, 12),
        "tall": (12, 8),
        "odd": (7, 8),
        "none": (3, 5),
        "scalar": (),
        "empty": (0, 3),
    }
    tree = jax.tree.map(jnp.zeros, shapes, is_leaf=lambda x: isinstance(x, tuple))
    found = shard_largest_axis(mesh, tree)
    assert {name: sharding.spec for name, sharding in found.items()} == {
        "wide": P(None, "data"),
        "tall": P("data"),
        "odd": P(None, "data"),
        "none": P(),
        "scalar": P(),
        "empty": P(),
    }
    assert shard(tree, found)["wide"].addressable_shards[0].data.shape == (8, 3)


def test_arrays_come_back_from_devices_as_they_went():
    mesh = mesh_of(4)
    tree = {
        "x": np.arange(24, dtype=np.float32).reshape(8, 3),
        "half": jnp.arange(8, dtype=jnp.bfloat16),
        "keys": jax.random.split(jax.random.key(3), 8),
        "flag": np.arange(8) > 2,
    }
    for sharding in (by_row(mesh), replicated(mesh)):
        placed = shard(tree, sharding)
        assert {
            leaf.sharding.is_equivalent_to(sharding, leaf.ndim) for leaf in placed.values()
        } == {True}
        back = to_host(placed)
        for name in ("x", "half", "flag"):
            assert_array_equal(back[name], tree[name])
            assert back[name].dtype == tree[name].dtype
        for keys in (placed["keys"], back["keys"]):
            assert_array_equal(jax.random.key_data(keys), jax.random.key_data(tree["keys"]))
    one = shard(jax.random.key(5), replicated(mesh))
    assert_array_equal(jax.random.key_data(one), jax.random.key_data(jax.random.key(5)))


def trainer(network, homes, mesh):
    loss = partial(
        denoising_loss,
        module=network[0],
        objective=AnyOrder(),
        times=stratified_times,
        ids=CanvasIds(VOCAB, VOCAB + 1),
    )
    optimizer = make_optimizer(OptimizerConfig(), 10)
    step = partial(train_step, loss=loss, optimizer=optimizer, micro_batches=2)
    out = None if homes is None else (homes, replicated(mesh))
    return optimizer, jax.jit(step, out_shardings=out)


def three_updates(network, devices, split):
    """The state and metrics after three updates with the batch split over devices."""
    mesh = mesh_of(devices)
    state = init_state(network[1], make_optimizer(OptimizerConfig(), 10))
    homes = jax.tree.map(lambda _: replicated(mesh), state)
    homes = shard_largest_axis(mesh, state) if split else homes
    _, step = trainer(network, homes, mesh)
    state, key = shard(state, homes), shard(jax.random.key(0), replicated(mesh))
    rng = np.random.default_rng(0)
    for index in range(3):
        tokens = rng.integers(0, VOCAB, (16, LENGTH))
        batch = shard(TokenBatch(tokens, np.ones(tokens.shape, bool)), by_row(mesh))
        state, metrics = step(state, jax.random.fold_in(key, index), batch)
    assert jax.tree.map(lambda x: x.sharding, state) == homes
    return state, metrics


@pytest.fixture(scope="module")
def alone(network):
    with jax.debug_key_reuse(True):
        return to_host(three_updates(network, 1, split=False))


@pytest.mark.parametrize("split", [False, True], ids=["replicated", "sharded"])
def test_training_on_four_devices_is_training_on_one(network, alone, split):
    state, metrics = three_updates(network, 4, split)
    kernel = state.params["block_0"]["gate"]["kernel"]
    assert kernel.addressable_shards[0].data.size == kernel.size // (4 if split else 1)
    start = jax.tree.leaves(network[1])
    moved = [np.abs(a - b).max() for a, b in zip(jax.tree.leaves(state.params), start, strict=True)]
    assert min(moved) > 1e-4
    jax.tree.map(partial(assert_allclose, rtol=1e-4, atol=1e-5), to_host((state, metrics)), alone)


def test_micro_batches_leave_every_device_its_own_rows():
    """Slices of a batch that is split over devices stay split, so nothing moves between them."""
    mesh = mesh_of(4)
    x = shard(np.arange(16, dtype=np.float32), by_row(mesh))

    def loss(params, key, part):
        return jnp.mean(params * part), {}

    step = jax.jit(partial(accumulate, loss, micro_batches=2))
    text = step.lower(jnp.ones(()), jax.random.key(0), x).compile().as_text()
    assert "all-reduce" in text
    assert not any(word in text for word in ("all-gather", "all-to-all", "collective-permute"))
