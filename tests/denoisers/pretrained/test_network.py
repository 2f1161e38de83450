"""LLaDA, Dream and SMDM against what the field's own code computed."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from published_world import PUBLISHED, family_of, small
from recorded import EVERY, RECORDINGS, arrays

from mdm_jax.denoisers.base import Denoise, DenoiseCached, KVCache, bind
from mdm_jax.denoisers.pretrained.checkpoints import load
from mdm_jax.denoisers.pretrained.config import PretrainedConfig
from mdm_jax.denoisers.pretrained.dream import DREAM_7B
from mdm_jax.denoisers.pretrained.layers import Block
from mdm_jax.denoisers.pretrained.llada import LLADA_8B
from mdm_jax.denoisers.pretrained.network import PretrainedTransformer
from mdm_jax.denoisers.pretrained.smdm import SMDM_1B, SMDM_170M
from mdm_jax.denoisers.rope import rope_table
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig

NAMES = ("llada_tiny", "dream_tiny", "smdm_tiny")
WIDE = 128  # every recorded input is padded to it
CLOSE = {"rtol": 0, "atol": 5e-4}


@pytest.fixture(scope="module", params=NAMES)
def recorded(request):
    """The denoiser with its logits unshifted, its info, and the recorded arrays."""
    denoise, info = load(RECORDINGS / request.param)
    raw = bind(PretrainedTransformer(replace(denoise.module.config, shifted=False)), denoise.params)
    return raw, info, arrays(f"{request.param}/logits")


def padded(rows, pad_id):
    canvases = np.full((len(rows), WIDE), pad_id, np.int32)
    for row, tokens in enumerate(rows):
        canvases[row, : len(tokens)] = tokens
    return jnp.asarray(canvases)


@jax.jit
def batch_of(denoise, canvases, valid):
    return jax.vmap(denoise)(canvases, valid)


@jax.jit
def whole(denoise, canvas):
    return denoise.with_hidden(canvas, jnp.ones(canvas.shape, bool))


def test_logits_of_every_input_alone_or_padded(recorded):
    """One batch, each row right padded to 128 positions; padding moves no logit of a valid position."""
    denoise, info, theirs = recorded
    inputs = [theirs[f"input_ids_{k}"] for k in range(5) if f"input_ids_{k}" in theirs]
    canvases = padded(inputs, info.pad_id)
    logits = batch_of(denoise, canvases, canvases != info.pad_id)
    for k, tokens in enumerate(inputs):
        assert_allclose(logits[k, : len(tokens), ::EVERY], theirs[f"logits_{k}"], **CLOSE)


def test_left_padded_batches_are_our_right_padded_ones(recorded):
    """Rotary positions only tell distances, so where the padding stands does not matter."""
    denoise, info, theirs = recorded
    if info.family == "smdm":
        assert "padded_logits" not in theirs  # SMDM knows no padding
        return
    shown = theirs["padded_attention_mask"]
    rows = [tokens[seen] for tokens, seen in zip(theirs["padded_input_ids"], shown, strict=True)]
    canvases = padded(rows, info.pad_id)
    logits = batch_of(denoise, canvases, canvases != info.pad_id)
    assert {len(row) for row in rows} != {len(rows[0])}
    for row, seen in enumerate(shown):
        got = logits[row, : seen.sum(), ::EVERY]
        assert_allclose(got, theirs["padded_logits"][row][seen], **CLOSE)


def test_hidden_states_after_every_block_and_the_norm(recorded):
    denoise, info, theirs = recorded
    canvas = jnp.asarray(theirs["input_ids_1"])

    @jax.jit
    def traced(params):
        return denoise.module.apply(
            {"params": params},
            canvas,
            jnp.ones(canvas.shape, bool),
            capture_intermediates=lambda module, _: isinstance(module, Block),
        )

    logits, seen = traced(denoise.params)
    blocks = [
        seen["intermediates"][f"block_{i}"]["__call__"][0][0]
        for i in range(denoise.module.config.depth)
    ]
    expected = list(theirs["hidden_states_1"])  # of every fourth position
    assert_allclose(denoise.params["embed"][canvas[::4]], expected[0], atol=1e-6)
    # LLaDA and Dream give the last block's output after the final norm alone
    after = expected[1:-1] if info.family == "smdm" else [*expected[1:-1], None]
    for got, want in zip(blocks, after, strict=True):
        assert want is None or np.abs(got[::4] - want).max() < 5e-5
    logits, hidden = whole(denoise, canvas)
    assert_allclose(hidden[::4], expected[-1], **CLOSE)
    assert_allclose(logits[:, ::EVERY], theirs["logits_1"], **CLOSE)


def test_bfloat16_is_no_worse_than_the_recorded_bfloat16(recorded):
    denoise, _, theirs = recorded
    config = replace(denoise.module.config, dtype="bfloat16")
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), denoise.params)
    half = bind(PretrainedTransformer(config), params)
    logits, hidden = whole(half, jnp.asarray(theirs["input_ids_1"]))
    assert logits.dtype == hidden.dtype == jnp.float32
    exact = theirs["logits_f64_1"]  # computed in float64
    error = np.abs(logits[:, ::EVERY] - exact).mean()
    assert 1e-3 < error < 1.5 * np.abs(theirs["logits_bf16_1"] - exact).mean()


def test_smdm_rounds_its_rotary_table():
    denoise, _ = load(RECORDINGS / "smdm_tiny")
    theirs = arrays("smdm_tiny/logits")
    cos, sin = rope_table(jnp.arange(128), 16, 10000.0)
    for table, name in ((cos, "rope_cos"), (sin, "rope_sin")):
        assert_allclose(table.astype(jnp.bfloat16).astype(jnp.float32), theirs[name], atol=1e-6)
        assert np.abs(table - theirs[name]).max() > 1e-3
    exact = replace(denoise.module.config, rounded_rope=False)
    canvas = jnp.asarray(theirs["input_ids_1"])
    logits, _ = whole(bind(PretrainedTransformer(exact), denoise.params), canvas)
    logits = logits[:, ::EVERY]
    assert_allclose(logits, theirs["logits_ropef32_1"], **CLOSE)
    assert np.abs(logits - theirs["logits_1"]).max() > 0.03


# ---- what holds of all of them; needs no recorded results ----------------------------------------


def canvas_of(info, length=8, seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 20, length)
    return jnp.asarray(np.where(rng.random(length) < 0.5, info.mask_id, tokens))


def test_dream_is_shifted_by_one():
    """Position i is row i - 1 of the head, position 0 its own; the same where positions are asked."""
    denoise, info = small("dream")
    raw = bind(PretrainedTransformer(replace(denoise.module.config, shifted=False)), denoise.params)
    canvas = canvas_of(info)
    (shifted, shifted_hidden), (plain, plain_hidden) = whole(denoise, canvas), whole(raw, canvas)
    rows = np.array([0, 0, 1, 2, 3, 4, 5, 6])
    assert_array_equal(shifted, plain[rows])
    assert_array_equal(shifted_hidden, plain_hidden[rows])
    wanted = jnp.array([5, 0, 1])
    few = jax.jit(lambda f: f(canvas, canvas >= 0, wanted))(denoise)
    assert_allclose(few, shifted[wanted], atol=1e-5)
    assert not small("llada")[0].module.config.shifted


@pytest.mark.parametrize("name", PUBLISHED)
def test_padding_changes_no_logits(name):
    """Ids outside the vocabulary included, and a batch is its rows."""
    denoise, info = small(name)
    canvas = canvas_of(info)
    expected = whole(denoise, canvas)[0]
    rows = [jnp.concatenate([canvas, jnp.full(4, fill)]) for fill in (info.pad_id, 0, 10**6)]
    logits = batch_of(denoise, jnp.stack(rows), jnp.tile(jnp.arange(12) < 8, (3, 1)))
    for row in logits:
        assert_allclose(row[:8], expected, atol=2e-5)
    seen = batch_of(denoise, jnp.stack(rows), jnp.ones((3, 12), bool))
    assert np.abs(seen[1, :8] - expected).max() > 1e-2


@pytest.mark.parametrize("name", PUBLISHED)
def test_meets_the_contracts(name):
    denoise, _ = small(name)
    assert isinstance(denoise, Denoise) and isinstance(denoise, DenoiseCached)


def test_a_network_without_a_cache_is_named():
    denoise = bind(Transformer(TransformerConfig(), 5), {})
    with pytest.raises(ValueError, match="Transformer keeps no cache: it has no method extend"):
        denoise.extend(
            jnp.zeros(3, int), jnp.int32(0), jnp.ones(3, bool), KVCache((), jnp.zeros((3, 4)))
        )


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("norm_eps", 0.1),
        ("rope_base", 7.0),
        ("shifted", False),
        ("rounded_rope", True),
        ("qkv_bias", False),
        ("dtype", "bfloat16"),
    ],
)
def test_every_knob_changes_the_logits(knob, value):
    denoise, info = small("dream")
    turned = replace(denoise.module.config, **{knob: value})
    canvas = canvas_of(info)
    plain = whole(denoise, canvas)[0]
    other = whole(bind(PretrainedTransformer(turned), denoise.params), canvas)[0]
    assert np.abs(other - plain).max() > 1e-3


def test_a_canvas_longer_than_the_model_is_refused():
    denoise, info = small("llada")
    with pytest.raises(ValueError, match="a canvas of 33 is longer than max_length 32"):
        whole(denoise, canvas_of(info, 33))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"heads": 3}, "heads 3 must divide width 16"),
        ({"heads": 16, "kv_heads": 16}, "even parts"),
        ({"kv_heads": 3}, "kv_heads 3 must divide heads 4"),
        ({"depth": 0}, "depth"),
    ],
)
def test_impossible_shapes(shape, message):
    config = family_of("llada").config(PUBLISHED["llada"])
    with pytest.raises(ValueError, match=message):
        replace(config, **shape)


@pytest.mark.parametrize(
    ("config", "billions"),
    [(LLADA_8B, 8.016), (DREAM_7B, 7.616), (SMDM_170M, 0.219050496), (SMDM_1B, 1.142367744)],
    ids=["LLaDA-8B", "Dream-7B", "SMDM-170M", "SMDM-1B"],
)
def test_real_sizes(config: PretrainedConfig, billions):
    """Parameters as published, from shapes alone."""
    arguments = jax.random.key(0), jnp.zeros(1, int), jnp.ones(1, bool)
    shapes = jax.eval_shape(PretrainedTransformer(config).init, *arguments)["params"]
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert abs(count / 1e9 - billions) < (1e-9 if billions < 2 else 5e-4)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("bfloat16")}
