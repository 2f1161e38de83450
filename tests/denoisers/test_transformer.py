"""The transformer: counted, padded, sliced, rotated, stacked, and every knob turned."""

from dataclasses import replace
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mdm_jax.denoisers.base import Denoise, DenoiseDependence, DenoiseHidden, bind
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig, rotate
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.policies.heuristics import TopConfidence
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample

VOCAB, LENGTH, MASK, PAD = 5, 8, 5, 6
SMALL = TransformerConfig(width=16, depth=1, heads=2, max_length=16)
CANVAS = np.array([0, MASK, 3, MASK, MASK, 1, 4, MASK], np.int32)
VALID = np.ones(LENGTH, bool)


def shapes_of(module):
    return jax.eval_shape(module.init, jax.random.key(0), jnp.zeros(LENGTH, int), VALID)["params"]


def network(config, seed=0):
    """Module and parameters; the norms' scales are drawn too, so that no default hides them."""
    module = Transformer(config, VOCAB)
    rng = np.random.default_rng(seed)

    def draw(shape):
        return jnp.asarray((len(shape.shape) == 1) + 0.3 * rng.standard_normal(shape.shape), "f4")

    return module, jax.tree.map(draw, shapes_of(module))


@partial(jax.jit, static_argnums=0)
def logits_of(module, params, canvas, valid, positions=None):
    return module.apply({"params": params}, canvas, valid, positions)


@partial(jax.jit, static_argnums=0)
def loss_and_gradient(module, params):
    """A loss that every logit enters with another weight."""
    weights = jnp.cos(jnp.arange(LENGTH * VOCAB, dtype=jnp.float32)).reshape(LENGTH, VOCAB)

    def loss(params):
        logits = module.apply({"params": params}, jnp.asarray(CANVAS), jnp.asarray(VALID))
        return jnp.sum(weights * jax.nn.log_softmax(logits))

    return jax.value_and_grad(loss)(params)


@pytest.fixture(scope="module")
def small():
    return network(SMALL)


@pytest.mark.parametrize(
    "config",
    [SMALL, replace(SMALL, mlp=20, depth=3, heads=4, scan=True), TransformerConfig(qk_norm=False)],
)
def test_parameter_count(config):
    width, mlp, dim = config.width, config.mlp_width, config.width // config.heads
    norms = 2 * width + (2 * dim if config.qk_norm else 0)
    block = 4 * width**2 + 3 * width * mlp + norms
    ends = (VOCAB + 2) * width + (config.max_length or 0) * width + width + width * VOCAB
    module = Transformer(config, VOCAB)
    shapes = shapes_of(module)
    assert sum(x.size for x in jax.tree.leaves(shapes)) == ends + config.depth * block


@pytest.mark.parametrize(("width", "mlp"), [(16, 48), (24, 64), (64, 176), (48, 128)])
def test_default_mlp_is_eight_thirds_rounded_up(width, mlp):
    assert TransformerConfig(width=width).mlp_width == mlp
    assert 0 <= mlp - 8 * width / 3 < 8
    assert TransformerConfig(width=width, mlp=9).mlp_width == 9


def test_padding_changes_nothing(small):
    module, params = small
    plain = logits_of(module, params, CANVAS, VALID)
    valid = np.append(VALID, np.zeros(4, bool))
    for filler in (PAD, 2):
        padded = np.append(CANVAS, np.full(4, filler, np.int32))
        longer = logits_of(module, params, padded, valid)
        assert_allclose(longer[:LENGTH], plain, atol=1e-5)
    seen = logits_of(module, params, padded, np.ones(12, bool))
    assert np.abs(seen[:LENGTH] - plain).max() > 1e-2


def test_no_gradient_reaches_the_padding(small):
    module, params = small
    canvas = np.append(CANVAS, np.full(4, PAD, np.int32))

    @jax.jit
    def gradient(params):
        def loss(params):
            padded = jnp.asarray(canvas)
            return jnp.sum(module.apply({"params": params}, padded, padded != PAD)[:LENGTH, 0])

        return jax.grad(loss)(params)

    found = gradient(params)
    assert_array_equal(found["embed"]["embedding"][PAD], 0.0)
    assert np.abs(found["embed"]["embedding"][MASK]).max() > 0
    assert_array_equal(found["positions"][LENGTH:], 0.0)
    assert np.abs(found["positions"][:LENGTH]).min(axis=1).max() > 0


def test_positions_slice_the_logits(small):
    module, params = small
    wanted = np.array([6, 0, 3, 3])
    full = logits_of(module, params, CANVAS, VALID)
    few = logits_of(module, params, CANVAS, VALID, wanted)
    assert_allclose(few, full[wanted], atol=2e-6)  # XLA fuses the two programs differently
    assert_array_equal(few[2], few[3])
    denoise = bind(module, params)
    assert isinstance(denoise, Denoise)
    assert_array_equal(jax.jit(lambda *x: x[0](*x[1:]))(denoise, CANVAS, VALID, wanted), few)


@jax.jit
def both_of(denoise, canvas, valid, positions=None):
    return denoise.with_hidden(canvas, valid, positions)


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("wanted", [None, np.array([6, 0, 3, 3])])
def test_hidden_states_come_with_the_same_logits(wanted, scan):
    module, params = network(replace(SMALL, depth=2, scan=scan))
    logits, hidden = both_of(bind(module, params), CANVAS, VALID, wanted)
    assert_array_equal(logits, logits_of(module, params, CANVAS, VALID, wanted))
    assert hidden.shape == (len(logits), SMALL.width) and hidden.dtype == jnp.float32
    assert_allclose(hidden @ params["unembed"]["kernel"], logits, atol=1e-5)
    sizes = np.mean((np.asarray(hidden) / params["final_norm"]["scale"]) ** 2, axis=1)
    assert_allclose(sizes, 1.0, rtol=1e-3)  # normalised


def test_positions_slice_the_hidden_states(small):
    wanted = np.array([6, 0, 3, 3])
    full, few = (both_of(bind(*small), CANVAS, VALID, here)[1] for here in (None, wanted))
    assert full.shape == (LENGTH, SMALL.width)
    assert_allclose(few, full[wanted], atol=2e-6)
    assert np.ptp(full, axis=0).min() > 1e-2


def test_hidden_states_are_float32_whatever_is_computed_in(small):
    module, params = small
    half = Transformer(replace(SMALL, dtype="bfloat16"), VOCAB)
    logits, hidden = both_of(bind(half, params), CANVAS, VALID)
    assert_array_equal(logits, logits_of(half, params, CANVAS, VALID))
    assert logits.dtype == jnp.bfloat16 and hidden.dtype == jnp.float32
    exact = both_of(bind(module, params), CANVAS, VALID)[1]
    assert 1e-5 < np.abs(hidden - exact).max() < 0.05 * np.abs(exact).max()


class Certain(nn.Module):
    """A network without hidden states: the same logits everywhere."""

    @nn.compact
    def __call__(self, canvas, valid, positions=None):
        bias = self.param("bias", nn.initializers.ones, (VOCAB,))
        return jnp.tile(bias, (len(canvas if positions is None else positions), 1))


def test_a_module_without_hidden_states_is_named(small):
    assert isinstance(bind(*small), DenoiseHidden)
    assert not isinstance(jax.tree_util.Partial(bind(*small)), DenoiseHidden)
    denoise = bind(Certain(), {"bias": jnp.ones(VOCAB)})
    assert denoise(jnp.asarray(CANVAS), jnp.asarray(VALID)).shape == (LENGTH, VOCAB)
    with pytest.raises(ValueError, match="Certain gives no hidden states: it has no method"):
        denoise.with_hidden(jnp.asarray(CANVAS), jnp.asarray(VALID))


def test_names_of_the_parameters_stay():
    """Checkpoints depend on them."""
    around = {"embed", "positions", "final_norm", "unembed"}
    assert set(shapes_of(Transformer(replace(SMALL, depth=2), VOCAB))) == (
        around | {"block_0", "block_1"}
    )
    scanned = shapes_of(Transformer(replace(SMALL, depth=2, scan=True), VOCAB))
    assert set(scanned) == around | {"blocks"}
    inside = {"attention", "attention_norm", "mlp_norm", "gate", "up", "down"}
    assert set(scanned["blocks"]) == inside
    attention = {"query", "key", "value", "out", "query_norm", "key_norm"}
    assert set(scanned["blocks"]["attention"]) == attention


def test_only_learned_positions_tell_masks_apart():
    masks = np.full(LENGTH, MASK, np.int32)
    same = logits_of(*network(replace(SMALL, max_length=None)), masks, VALID)
    assert_allclose(same, np.broadcast_to(same[0], same.shape), atol=1e-5)
    placed = np.asarray(logits_of(*network(SMALL), masks, VALID))
    assert np.ptp(placed, axis=0).min() > 1e-2


def test_rotary_distances_do_matter():
    module, params = network(replace(SMALL, max_length=None))
    one = np.full(LENGTH, MASK, np.int32)
    one[2] = 0
    found = np.asarray(logits_of(module, params, one, VALID))
    assert np.abs(found[3] - found[6]).max() > 1e-3


def test_scan_equals_separate_blocks():
    config = replace(SMALL, depth=2)
    module, params = network(config)
    blocks = [params[f"block_{layer}"] for layer in range(config.depth)]
    rest = {name: leaf for name, leaf in params.items() if not name.startswith("block_")}
    stacked = rest | {"blocks": jax.tree.map(lambda *x: jnp.stack(x), *blocks)}
    scanned = Transformer(replace(config, scan=True), VOCAB)
    shapes = shapes_of(scanned)
    assert jax.tree.map(jnp.shape, stacked) == jax.tree.map(jnp.shape, shapes)
    assert_allclose(
        logits_of(scanned, stacked, CANVAS, VALID),
        logits_of(module, params, CANVAS, VALID),
        atol=1e-5,
    )


def test_scanned_blocks_start_different():
    module = Transformer(replace(SMALL, depth=2, scan=True), VOCAB)

    @jax.jit
    def gates(key):
        params = module.init(key, jnp.asarray(CANVAS), jnp.asarray(VALID))["params"]
        return params["blocks"]["gate"]["kernel"]

    kernels = gates(jax.random.key(0))
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01


def test_remat_changes_no_gradient():
    config = replace(SMALL, depth=2, scan=True)
    module, params = network(config)
    again = Transformer(replace(config, remat=True), VOCAB)
    loss, gradient = loss_and_gradient(module, params)
    loss_again, gradient_again = loss_and_gradient(again, params)
    assert_allclose(loss_again, loss, rtol=1e-6)
    jax.tree.map(partial(assert_allclose, rtol=1e-4, atol=1e-5), gradient_again, gradient)


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("remat", [False, True])
def test_what_is_scanned_and_recomputed(remat, scan):
    module = Transformer(replace(SMALL, remat=remat, scan=scan), VOCAB)
    arguments = {"params": shapes_of(module)}, jnp.asarray(CANVAS), jnp.asarray(VALID)
    text = str(jax.make_jaxpr(module.apply)(*arguments))
    assert ("remat" in text or "checkpoint" in text) == remat
    assert ("scan[" in text) == scan


def test_bfloat16_computes_near_float32_with_float32_parameters(small):
    module, params = small
    half = Transformer(replace(SMALL, dtype="bfloat16"), VOCAB)
    fresh = shapes_of(half)
    assert {x.dtype for x in jax.tree.leaves(fresh)} == {jnp.dtype("float32")}
    exact = logits_of(module, params, CANVAS, VALID)
    rough = logits_of(half, params, CANVAS, VALID)
    assert rough.dtype == jnp.bfloat16
    error = np.abs(rough.astype(jnp.float32) - exact).max()
    assert 1e-5 < error < 0.05 * np.abs(exact).max()
    done = sample(
        row_keys(jax.random.key(0), jnp.arange(2)),
        jnp.full((2, LENGTH), MASK),
        denoise=bind(half, params),
        policy=TopConfidence(2),
        config=SamplerConfig(mask_id=MASK, pad_id=PAD, budget=4, temperature=1.0),
    )
    assert_array_equal(done.nfe, [2, 2])
    assert done.canvas.max() < VOCAB


def scaled_queries(params, factor):
    """Every block's queries and keys made larger."""

    def larger(path, leaf):
        named = jax.tree_util.keystr(path)
        return leaf * factor if "query']" in named or "key']" in named else leaf

    return jax.tree_util.tree_map_with_path(larger, params)


def test_qk_norm_makes_the_size_of_queries_irrelevant():
    for qk_norm in (True, False):
        module, params = network(replace(SMALL, qk_norm=qk_norm))
        plain = logits_of(module, params, CANVAS, VALID)
        large = logits_of(module, scaled_queries(params, 4.0), CANVAS, VALID)
        change = np.abs(large - plain).max()
        assert change < 1e-3 if qk_norm else change > 1e-1


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("width", 32),
        ("depth", 2),
        ("heads", 4),
        ("mlp", 24),
        ("rope_base", 10.0),
        ("max_length", None),
        ("qk_norm", False),
        ("dtype", "bfloat16"),
    ],
)
def test_every_knob_changes_the_logits(small, knob, value):
    plain = logits_of(*small, CANVAS, VALID)
    turned = logits_of(*network(replace(SMALL, **{knob: value})), CANVAS, VALID)
    assert np.abs(turned.astype(jnp.float32) - plain).max() > 1e-3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"heads": 0}, "heads must be at least 1, got 0"),
        ({"mlp": 0}, "mlp must be at least 1, got 0"),
        ({"max_length": 0}, "max_length must be at least 1, got 0"),
        ({"rope_base": 0.0}, "rope_base must be above 0, got 0.0"),
        ({"rope_base": float("nan")}, "rope_base must be above 0 and finite, got nan"),
        ({"width": 30}, "heads 4 must divide width 30"),
        ({"width": 12}, "even parts"),
    ],
)
def test_impossible_shapes(settings, message):
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**settings)


def test_a_canvas_longer_than_max_length_is_refused():
    module = Transformer(replace(SMALL, max_length=LENGTH - 1), VOCAB)
    with pytest.raises(ValueError, match="a canvas of 8 is longer than max_length 7"):
        shapes_of(module)


def test_rotation_encodes_distances_alone():
    query, key = np.random.default_rng(0).standard_normal((2, 1, 1, 6), np.float32)
    everywhere = (LENGTH, 1, 6)
    q = rotate(jnp.broadcast_to(query, everywhere), 100.0)[:, 0]
    k = rotate(jnp.broadcast_to(key, everywhere), 100.0)[:, 0]
    products = np.asarray(q @ k.T)
    for offset in range(1 - LENGTH, LENGTH):
        assert np.ptp(np.diagonal(products, offset)) < 1e-4
    assert np.ptp(products[0]) > 0.1
    assert_allclose(q[0], query[0, 0], rtol=1e-6)
    assert_allclose(np.linalg.norm(q, axis=1), np.linalg.norm(query), rtol=1e-5)


def test_rotation_by_hand():
    """Pair (i, i + half) of position p turns by p * base^(-i / half)."""
    x = np.random.default_rng(1).standard_normal((3, 2, 4), np.float32)
    turned = np.asarray(rotate(jnp.asarray(x), 100.0))
    for place in range(3):
        for i, speed in enumerate((1.0, 0.1)):
            z = (x[place, :, i] + 1j * x[place, :, i + 2]) * np.exp(1j * place * speed)
            assert_allclose(turned[place, :, i] + 1j * turned[place, :, i + 2], z, rtol=1e-5)


def test_a_batch_is_its_rows(small):
    module, params = small
    canvases = np.random.default_rng(0).integers(0, VOCAB + 1, (6, LENGTH)).astype(np.int32)
    valid = np.arange(LENGTH) < np.array([8, 7, 8, 5, 8, 6])[:, None]
    batch = jax.jit(jax.vmap(bind(module, params)))(canvases, valid)
    for row in range(6):
        one = logits_of(module, params, canvases[row], valid[row])
        assert_allclose(batch[row][valid[row]], one[valid[row]], atol=1e-5)


@pytest.mark.parametrize("scan", [False, True])
def test_attention_says_what_depends_on_what(scan):
    """A mean of softmaxes over valid positions, from late layers; the logits are the same."""
    module, params = network(replace(SMALL, depth=2, scan=scan))
    denoise = bind(module, params)
    assert isinstance(denoise, DenoiseDependence) and set(params) == set(shapes_of(module))
    canvas, valid = jnp.asarray(CANVAS), jnp.asarray(VALID).at[6].set(False)
    some = jnp.array([1, 3])

    @jax.jit
    def called(denoise):
        whole = denoise.with_dependence(canvas, valid)
        return denoise(canvas, valid), *whole, denoise.with_dependence(canvas, valid, some)[1]

    alone, logits, attention, pairs = called(denoise)
    assert_allclose(logits, alone, atol=1e-6)
    assert_allclose(attention.sum(axis=1), 1, rtol=1e-5)
    assert (np.asarray(attention)[:, 6] == 0).all() and (np.asarray(attention)[:, :6] > 0).all()
    assert_allclose(pairs, attention[some][:, some])
