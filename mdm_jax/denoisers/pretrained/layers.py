"""Layers of the published networks: linear maps, attention that can use a cache, a block of both."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mdm_jax.denoisers.attention import attend
from mdm_jax.denoisers.pretrained.config import PretrainedConfig
from mdm_jax.denoisers.rope import RopeTable, apply_rope
from mdm_jax.types import Count, Mask

Hidden = Float[Array, "slice width"]
Heads = Float[Array, "slice heads dim"]
KeyValue = tuple[Float[Array, "length heads dim"], Float[Array, "length heads dim"]]
Visible = Mask | Bool[Array, "slice length"]  # keys that every query, or each one, may attend to


class Place(NamedTuple):
    """Where the keys and values of a slice are written over cached ones."""

    start: Count
    first: Count | int = 0  # the slice's own positions before it leave the cache as it is


class Linear(nn.Module):
    """x W^T + b, with W [outputs, inputs]."""

    config: PretrainedConfig
    outputs: int
    bias: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "slice inputs"]) -> Float[Array, "slice outputs"]:
        matrix = weight(self, "weight", (self.outputs, x.shape[-1]))
        y = x @ matrix.astype(x.dtype).T
        if not self.bias:
            return y
        return y + self.param("bias", nn.initializers.zeros, (self.outputs,), x.dtype).astype(
            x.dtype
        )


class Attention(nn.Module):
    """Queries of a slice over keys and values of the whole canvas.

    Keys and values are those of the slice alone, or `cached` ones with the slice's written over them.
    """

    config: PretrainedConfig

    @nn.compact
    def __call__(
        self,
        x: Hidden,
        rope: RopeTable,
        visible: Visible,
        place: Place | None,
        cached: KeyValue | None,
    ) -> tuple[Hidden, KeyValue]:
        config = self.config

        def heads(name: str, number: int) -> Heads:
            project = Linear(config, number * config.dim, config.qkv_bias, name=name)
            return project(x).reshape(-1, number, config.dim)

        query = apply_rope(heads("query", config.heads), rope)
        fresh = apply_rope(heads("key", config.kv_heads), rope), heads("value", config.kv_heads)
        kv_cache = _updated(cached, fresh, place)
        mixed = attend(query, *kv_cache, visible, config.attention)
        return Linear(config, config.width, name="out")(mixed.reshape(x.shape)), kv_cache


class Block(nn.Module):
    """Pre-norm attention and SwiGLU, each added to the residual stream."""

    config: PretrainedConfig

    @nn.compact
    def __call__(
        self,
        x: Hidden,
        rope: RopeTable,
        visible: Visible,
        place: Place | None,
        cached: KeyValue | None,
    ) -> tuple[Hidden, KeyValue]:
        config = self.config
        attention = Attention(config, name="attention")
        mixed, kv_cache = attention(norm(config, "attention_norm")(x), rope, visible, place, cached)
        x = x + mixed
        h = norm(config, "mlp_norm")(x)
        gate, up = (Linear(config, config.mlp, name=name)(h) for name in ("gate", "up"))
        return x + Linear(config, config.width, name="down")(nn.silu(gate) * up), kv_cache


def _updated(cached: KeyValue | None, fresh: tuple[Heads, Heads], place: Place | None) -> KeyValue:
    """Keys and values of the whole canvas: the cached ones (if any) with the fresh ones in place."""
    if cached is None:
        return fresh
    return written(cached[0], fresh[0], place), written(cached[1], fresh[1], place)


def written(
    cached: Float[Array, "length ..."], fresh: Float[Array, "slice ..."], place: Place
) -> Float[Array, "length ..."]:
    """`cached` with `fresh` in its place."""
    if not isinstance(place.first, int):
        old = jax.lax.dynamic_slice_in_dim(cached, place.start, len(fresh))
        shape = len(fresh), *[1] * (fresh.ndim - 1)
        fresh = jnp.where((jnp.arange(len(fresh)) >= place.first).reshape(shape), fresh, old)
    return jax.lax.dynamic_update_slice_in_dim(cached, fresh, place.start, axis=0)


def weight(module: nn.Module, name: str, shape: tuple[int, int]) -> Float[Array, "rows width"]:
    """A matrix parameter in the type of the config."""
    init = nn.initializers.normal(0.02)
    return module.param(name, init, shape, jnp.dtype(module.config.dtype))


def norm(config: PretrainedConfig, name: str | None = None) -> nn.RMSNorm:
    """RMSNorm with the config's epsilon and type."""
    dtype = jnp.dtype(config.dtype)
    return nn.RMSNorm(epsilon=config.norm_eps, dtype=dtype, param_dtype=dtype, name=name)
