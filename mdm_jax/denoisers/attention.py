"""Attention over the valid positions, and the choice of its kernel."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.chunks import map_parts
from mdm_jax.errors import MdmError
from mdm_jax.types import Count, Mask

Implementation = Literal["auto", "xla", "cudnn"]
MANY_KEYS, QUERIES_AT_ONCE = 512, 128  # see `_attend_in_parts`
WIDEST_HEAD = 128  # of cuDNN's fused attention on every GPU that has it


class Chosen(NamedTuple):
    """An implementation of `jax.nn.dot_product_attention`, and the reason for it."""

    implementation: Literal["xla", "cudnn"]
    why: str


def choose(wanted: Implementation, platform: str, dtype: jnp.dtype, dim: int) -> Chosen:
    """The attention kernel for heads of width `dim` in `dtype` on `platform`.

    Args:
      wanted: "auto" takes cuDNN's fused attention wherever it is available.

    Raises:
      MdmError: "cudnn" is requested where it is not available.
    """
    if wanted == "xla":
        return Chosen("xla", "requested")
    obstacle = _obstacle(platform, dtype, dim)
    if obstacle is None:
        return Chosen("cudnn", "a GPU, a half-precision type and heads that its kernels take")
    if wanted == "cudnn":
        raise MdmError(f'attention "cudnn" is not available: {obstacle}; take "auto" or "xla"')
    return Chosen("xla", obstacle)


def _obstacle(platform: str, dtype: jnp.dtype, dim: int) -> str | None:
    if platform != "gpu":
        return f"cuDNN needs a GPU, and this is a {platform}"
    if dtype not in (jnp.bfloat16, jnp.float16):
        return f"cuDNN's fused attention takes bfloat16 and float16, not {dtype}"
    if dim % 8 or dim > WIDEST_HEAD:
        return f"cuDNN takes heads of a multiple of 8 up to {WIDEST_HEAD}, not {dim}"
    return None


def attend(
    query: Float[Array, "queries heads dim"],
    key: Float[Array, "keys kv_heads dim"],
    value: Float[Array, "keys kv_heads dim"],
    valid: Mask | Bool[Array, "queries keys"],
    wanted: Implementation,
) -> Float[Array, "queries heads dim"]:
    """Softmax attention of every query over the valid keys, [queries, heads, dim].

    Padding is on the right, so the cuDNN kernel gets the number of valid keys in place of a mask. Where
    each query has valid keys of its own, XLA's attention is used.
    """
    chosen = choose(wanted, jax.default_backend(), query.dtype, query.shape[-1])
    if valid.ndim == 2 or chosen.implementation == "xla":
        return _attend_in_parts(query, key, value, valid)
    queries, keys = _lengths(query, valid)
    return jax.nn.dot_product_attention(
        query,
        key,
        value,
        implementation="cudnn",
        query_seq_lengths=queries,
        key_value_seq_lengths=keys,
    )


def _attend_in_parts(
    query: Float[Array, "queries heads dim"],
    key: Float[Array, "keys kv_heads dim"],
    value: Float[Array, "keys kv_heads dim"],
    valid: Mask | Bool[Array, "queries keys"],
) -> Float[Array, "queries heads dim"]:
    """XLA's attention, which keeps two arrays [queries, heads, keys]; on a CPU, of some queries at a
    time where there are many keys.
    """
    many = jax.default_backend() == "cpu" and key.shape[0] > MANY_KEYS
    size = QUERIES_AT_ONCE if many else query.shape[0]
    visible = valid[None] if valid.ndim == 1 else valid

    def some(query: Array, visible: Array) -> Array:
        mask = visible[None]
        return jax.nn.dot_product_attention(query, key, value, mask=mask, implementation="xla")

    if valid.ndim == 1:
        return map_parts(lambda part: some(part, visible), size, query)
    return map_parts(some, size, query, visible)


def _lengths(
    query: Float[Array, "queries heads dim"], valid: Mask
) -> tuple[Int[Array, "1"], Int[Array, "1"]]:
    """How many queries and valid keys there are, each [1]."""
    queries = _batched_like(query, jnp.int32(query.shape[0]))
    keys = _batched_like(query, jnp.sum(valid, dtype=jnp.int32))
    return queries[None], keys[None]


def _batched_like(x: Float[Array, "..."], count: Count) -> Count:
    """`count`, with the batch axis that `vmap` has given `x`: cuDNN's kernel wants both to have it.

    Both branches are the count; that one is chosen by `x` is what makes it one per row.
    """
    return jnp.where(x.ravel()[0] == 0, count, count)
