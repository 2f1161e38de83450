"""A call split into prefill, extend and read, against itself and against Fast-dLLM's own caches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from published_world import PUBLISHED, small
from recorded import EVERY, RECORDINGS, arrays

from mdm_jax.denoisers.pretrained.checkpoints import load
from mdm_jax.denoisers.rope import apply_rope, rope_table


@jax.jit
def prefill(denoise, canvas, valid):
    return denoise.prefill(canvas, valid)


@jax.jit
def extend(denoise, tokens, start, valid, kv_cache):
    return denoise.extend(tokens, start, valid, kv_cache)


@jax.jit
def read(denoise, kv_cache, positions=None):
    return denoise.read(kv_cache, positions)


@pytest.fixture(scope="module")
def recorded():
    found = jax.tree.map(jnp.asarray, arrays("llada_tiny/cache_logits"))
    return load(RECORDINGS / "llada_tiny").denoise, found


def test_caches_are_fast_dllms(recorded):
    """Prefix: everything from the block on. Dual: the block alone, twice, the second call on the cache
    that the first one overwrote.
    """
    denoise, theirs = recorded
    a, c, d = (theirs[f"canvas_{name}"] for name in "acd")
    start, stop = theirs["block"].tolist()
    valid, block = jnp.ones(a.shape, bool), jnp.arange(start, stop)
    kv_cache = prefill(denoise, a, valid)

    def logits(cache, positions=block):
        return read(denoise, cache, positions)[0][:, ::EVERY]

    assert_allclose(logits(kv_cache, None), theirs["full_logits_a"], atol=5e-4)
    suffix = extend(denoise, c[start:], jnp.int32(start), valid, kv_cache)
    assert_allclose(logits(suffix), theirs["prefix_logits"], atol=5e-4)
    once = extend(denoise, c[start:stop], jnp.int32(start), valid, kv_cache)
    assert_allclose(logits(once), theirs["dual_logits_1"], atol=5e-4)
    twice = extend(denoise, d[start:stop], jnp.int32(start), valid, once)
    assert_allclose(logits(twice), theirs["dual_logits_2"], atol=5e-4)
    full = logits(prefill(denoise, c, valid))
    assert np.abs(full - theirs["prefix_logits"]).max() > 1  # so the caches are really used


def test_positions_before_first_keep_their_cache(recorded):
    """Beginning two positions early with `first` 2 is extending from the later position."""
    denoise, theirs = recorded
    a, c = theirs["canvas_a"], theirs["canvas_c"]
    start, valid, kv_cache = (
        6,
        jnp.ones(a.shape, bool),
        prefill(denoise, a, jnp.ones(a.shape, bool)),
    )
    expected = extend(denoise, c[start:], jnp.int32(start), valid, kv_cache)
    early = jax.jit(lambda denoise, tokens, *rest: denoise.extend(tokens, *rest))
    got = early(denoise, c[start - 2 :], jnp.int32(start - 2), valid, kv_cache, jnp.int32(2))
    jax.tree.map(lambda g, e: assert_allclose(g, e, atol=1e-5), got, expected)


def test_keys_are_kept_after_rotation(recorded):
    """Fast-dLLM keeps them before it; positions never change, so this is the same."""
    denoise, theirs = recorded
    key, value = prefill(denoise, theirs["canvas_a"], jnp.ones(44, bool)).layers[0]
    table = rope_table(jnp.arange(44), 16, 500000.0)
    assert_allclose(key, apply_rope(theirs["kv_layer0_key"], table), atol=1e-5)
    assert_allclose(value, theirs["kv_layer0_value"], atol=1e-5)


def canvases_of(info):
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 20, (2, 12))
    canvases = np.where(rng.random((2, 12)) < 0.5, info.mask_id, tokens)
    canvases[:, 10:] = info.pad_id
    return jnp.asarray(canvases)


@pytest.mark.parametrize("name", PUBLISHED)
def test_extending_by_everything_is_a_full_call(name):
    denoise, info = small(name)
    old, new = canvases_of(info)
    valid = old != info.pad_id
    fresh, stale = prefill(denoise, new, valid), prefill(denoise, old, valid)
    again = extend(denoise, new, jnp.int32(0), valid, stale)
    for (key, value), (key_again, value_again) in zip(fresh.layers, again.layers, strict=True):
        assert_allclose(key_again[valid], key[valid], atol=1e-5)
        assert_allclose(value_again[valid], value[valid], atol=1e-5)
    expected = jax.jit(lambda f: f.with_hidden(new, valid))(denoise)
    for got, want in zip(read(denoise, again), expected, strict=True):
        assert_allclose(got[valid], want[valid], atol=1e-5)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_slice_is_written_and_nothing_else(name):
    """Unchanged tokens change nothing; changed ones move their slice, and the rest stays as it was."""
    denoise, info = small(name)
    old, new = canvases_of(info)
    valid, start, inside = old != info.pad_id, jnp.int32(4), np.arange(12) // 4 == 1
    kv_cache = prefill(denoise, old, valid)
    same = extend(denoise, old[4:8], start, valid, kv_cache)
    jax.tree.map(lambda a, b: assert_allclose(a[:10], b[:10], atol=1e-5), same, kv_cache)
    moved = extend(denoise, new[4:8], start, valid, kv_cache)
    for before, after in zip(jax.tree.leaves(kv_cache), jax.tree.leaves(moved), strict=True):
        assert_array_equal(after[~inside], before[~inside])
        assert np.abs(after[inside] - before[inside]).max() > 1e-2


def test_first_logits_of_a_slice_of_dream_come_from_the_previous_position():
    """As that was when last computed; a slice alone would have to take the wrong row."""
    denoise, info = small("dream")
    old, new = canvases_of(info)
    valid = old != info.pad_id
    kv_cache = prefill(denoise, old, valid)
    moved = extend(denoise, new[4:8], jnp.int32(4), valid, kv_cache)
    first, second = jnp.array([4]), jnp.array([5])
    assert_array_equal(read(denoise, moved, first)[0], read(denoise, kv_cache, first)[0])
    changed = read(denoise, moved, second)[0] - read(denoise, kv_cache, second)[0]
    assert np.abs(changed).max() > 1e-2
