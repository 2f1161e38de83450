"""Which attention kernel is chosen and why; both compute the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.denoisers import attention
from mdm_jax.denoisers.attention import attend, choose


@pytest.mark.parametrize(
    ("wanted", "platform", "dtype", "dim", "implementation", "why"),
    [
        ("auto", "gpu", "bfloat16", 128, "cudnn", "a GPU"),
        ("cudnn", "gpu", "float16", 64, "cudnn", "a GPU"),
        ("xla", "gpu", "bfloat16", 128, "xla", "requested"),
        ("auto", "cpu", "bfloat16", 128, "xla", "this is a cpu"),
        ("auto", "gpu", "float32", 128, "xla", "not float32"),
        ("auto", "gpu", "bfloat16", 20, "xla", "multiple of 8 up to 128, not 20"),
        ("auto", "gpu", "bfloat16", 256, "xla", "not 256"),
    ],
)
def test_the_kernel_and_the_reason(wanted, platform, dtype, dim, implementation, why):
    chosen = choose(wanted, platform, jnp.dtype(dtype), dim)
    assert chosen.implementation == implementation and why in chosen.why


def test_cudnn_where_it_is_not_available():
    with pytest.raises(ValueError, match=r'"cudnn" is not available: cuDNN needs a GPU.*a tpu'):
        choose("cudnn", "tpu", jnp.dtype("bfloat16"), 64)


def heads(seed, length, number):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((length, number, 8)), "f4")


def test_grouped_heads_over_the_valid_keys():
    """Against softmax written out; query heads 0 and 1 share key head 0, 2 and 3 share 1."""
    query, key, value = heads(0, 3, 4), heads(1, 6, 2), heads(2, 6, 2)
    valid = np.arange(6) < 4
    got = attend(query, key, value, jnp.asarray(valid), "auto")
    for head in range(4):
        scores = query[:, head] @ key[:4, head // 2].T / np.sqrt(8)
        odds = np.exp(scores)
        expected = odds / odds.sum(axis=1, keepdims=True) @ value[:4, head // 2]
        np.testing.assert_allclose(got[:, head], expected, atol=1e-5)


def test_lengths_mean_the_same_as_a_mask_of_right_padding():
    query, key, value = heads(0, 3, 4), heads(1, 6, 2), heads(2, 6, 2)
    valid = jnp.arange(6) < 4
    queries, keys = attention._lengths(query, valid)
    assert queries.tolist() == [3] and keys.tolist() == [4]
    got = jax.nn.dot_product_attention(
        query[None], key[None], value[None], query_seq_lengths=queries, key_value_seq_lengths=keys
    )
    np.testing.assert_allclose(got[0], attend(query, key, value, valid, "xla"), atol=1e-6)


@pytest.mark.parametrize("valid_axis", [0, None])
def test_a_batch_lowers_to_one_cudnn_call(valid_axis, monkeypatch):
    """No GPU is needed to write the program for one."""
    stablehlo = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
    checks = ("check_cudnn_version", "check_compute_capability", "is_cuda_compute_capability_equal")
    if not all(hasattr(stablehlo, name) for name in checks):
        pytest.skip("this JAX asks for its GPU in another way")
    for name, answer in zip(checks, (91100, True, False), strict=True):
        monkeypatch.setattr(stablehlo, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    query, key = (jnp.ones((3, length, 4, 16), jnp.bfloat16) for length in (8, 12))
    valid = jnp.ones((3, 12) if valid_axis == 0 else 12, bool)

    def one(query, key, valid):
        return attend(query, key, key, valid, "auto")

    batched = jax.jit(jax.vmap(one, in_axes=(0, 0, valid_axis)))
    text = batched.trace(query, key, valid).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("fmha") and "softmax" not in text.replace("fmhaSoftmax", "")


@pytest.mark.parametrize("each_its_own", [False, True])
def test_many_queries_are_attended_from_in_parts(monkeypatch, each_its_own):
    """The same but for rounding, in less than half the memory; 128 does not divide 600."""
    query, key, value = heads(0, 600, 2), heads(1, 600, 2), heads(2, 600, 2)
    valid = jnp.arange(600) < 570
    if each_its_own:
        valid = valid & (jnp.arange(600)[:, None] % 7 != jnp.arange(600) % 7)
    run = jax.jit(lambda *heads: attend(*heads, valid, "xla")).lower(query, key, value).compile()
    monkeypatch.setattr(attention, "MANY_KEYS", 600)
    whole = jax.jit(lambda *heads: attend(*heads, valid, "xla")).lower(query, key, value).compile()
    np.testing.assert_allclose(run(query, key, value), whole(query, key, value), atol=1e-6)
    used, before = (one.memory_analysis().temp_size_in_bytes for one in (run, whole))
    assert used < before / 2
