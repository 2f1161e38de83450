"""The network that LLaDA, Dream and SMDM have in common: pre-norm blocks of bidirectional attention
and SwiGLU, RMSNorm, RoPE, an untied head. Each family's own file says how its config.json maps here.

Every position is attended to by every other, except padding, which nobody attends to. Weights keep
their published layout [outputs, inputs].

Cost of one call: as `mdm_jax.denoisers.transformer`. A call may also be split in two, for samplers
that keep a cache: `prefill` computes what is to be known of every position, `extend` computes it
anew for a slice of the canvas and takes the rest as it was, `read` unembeds (Fast-dLLM,
arXiv:2505.22618).
"""

from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.denoisers.attention import Implementation, attend
from mdm_jax.denoisers.base import KVCache
from mdm_jax.denoisers.rope import RopeTable, apply_rope, rope_table
from mdm_jax.types import Count, Mask, Tokens

Dtype = Literal["float32", "bfloat16"]
Hidden = Float[Array, "slice width"]
Heads = Float[Array, "places heads dim"]
KeyValue = tuple[Float[Array, "length heads dim"], Float[Array, "length heads dim"]]
Seen = Mask | Bool[Array, "slice length"]  # the keys that all queries see, or each of them


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig:
    """Shape, conventions and numerics of a published denoiser.

    Attributes:
      vocab: rows of the head: ids that have a logit.
      embeddings: rows of the embedding. Ids beyond them stand for padding.
      width: of the residual stream.
      depth: blocks.
      heads: of the queries.
      kv_heads: of keys and values; each is shared by heads / kv_heads query heads.
      mlp: inner width of the SwiGLU.
      max_length: most positions of a canvas.
      norm_eps: of every RMSNorm.
      rope_base: base of the rotary frequencies.
      qkv_bias: whether queries, keys and values have biases (Dream).
      shifted: the distribution of position i is row i - 1 of the head's output, and position 0 keeps
        its own (Dream). Taken care of inside: callers always index by position.
      rounded_rope: the rotary cos and sin are rounded to bfloat16 whatever is computed in (SMDM).
      dtype: what is computed in, and what fresh parameters are. Rotation, softmax and logits are
        float32.
      attention: which kernel; see `mdm_jax.denoisers.attention`.

    Raises:
      ValueError: heads do not divide the width into even parts, or kv_heads the heads.
    """

    vocab: int
    embeddings: int
    width: int
    depth: int
    heads: int
    kv_heads: int
    mlp: int
    max_length: int
    norm_eps: float
    rope_base: float
    qkv_bias: bool = False
    shifted: bool = False
    rounded_rope: bool = False
    dtype: Dtype = "float32"
    attention: Implementation = "auto"

    def __post_init__(self) -> None:
        if min(self.vocab, self.depth, self.heads, self.kv_heads, self.mlp) < 1:
            raise ValueError(f"vocab, depth, heads, kv_heads and mlp must be >= 1, got {self}")
        if self.width % self.heads or self.dim % 2:
            raise ValueError(
                f"heads {self.heads} must divide width {self.width} into even parts (rotary pairs)"
            )
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads {self.kv_heads} must divide heads {self.heads}")

    @property
    def dim(self) -> int:
        """Width of one head."""
        return self.width // self.heads


class Linear(nn.Module):
    """x W^T + b, with W [outputs, inputs]."""

    config: PretrainedConfig
    outputs: int
    bias: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "slice inputs"]) -> Float[Array, "slice outputs"]:
        weight = _weight(self, "weight", (self.outputs, x.shape[-1]))
        y = x @ weight.astype(x.dtype).T
        if not self.bias:
            return y
        return y + self.param("bias", nn.initializers.zeros, (self.outputs,), x.dtype).astype(
            x.dtype
        )


class Attention(nn.Module):
    """Queries of the given positions over keys and values of the whole canvas.

    Those come from the same positions, or from `kept` with the given positions' slots overwritten.
    """

    config: PretrainedConfig

    @nn.compact
    def __call__(
        self, x: Hidden, by: RopeTable, valid: Seen, start: Count, kept: KeyValue | None
    ) -> tuple[Hidden, KeyValue]:
        config = self.config

        def heads(name: str, number: int) -> Heads:
            project = Linear(config, number * config.dim, config.qkv_bias, name=name)
            return project(x).reshape(-1, number, config.dim)

        query = apply_rope(heads("query", config.heads), by)
        fresh = apply_rope(heads("key", config.kv_heads), by), heads("value", config.kv_heads)
        kv_cache = _overwritten(kept, fresh, start)
        mixed = attend(query, *kv_cache, valid, config.attention)
        return Linear(config, config.width, name="out")(mixed.reshape(x.shape)), kv_cache


class Block(nn.Module):
    """Pre-norm attention and SwiGLU, each added to the residual stream."""

    config: PretrainedConfig

    @nn.compact
    def __call__(
        self, x: Hidden, by: RopeTable, valid: Seen, start: Count, kept: KeyValue | None
    ) -> tuple[Hidden, KeyValue]:
        config = self.config
        attention = Attention(config, name="attention")
        mixed, kv_cache = attention(_norm(config, "attention_norm")(x), by, valid, start, kept)
        x = x + mixed
        h = _norm(config, "mlp_norm")(x)
        gate, up = (Linear(config, config.mlp, name=name)(h) for name in ("gate", "up"))
        return x + Linear(config, config.width, name="down")(nn.silu(gate) * up), kv_cache


class PretrainedTransformer(nn.Module):
    """Denoiser network of one sequence; meets `DenoiseHidden` and `DenoiseCached` once bound."""

    config: PretrainedConfig

    def setup(self) -> None:
        config = self.config
        self.embed = _weight(self, "embed", (config.embeddings, config.width))
        self.blocks = [Block(config, name=f"block_{i}") for i in range(config.depth)]
        self.final_norm = _norm(config, "final_norm")
        self.head = _weight(self, "head", (config.vocab, config.width))

    def __call__(
        self, canvas: Tokens, valid: Mask, positions: Int[Array, " wanted"] | None = None
    ) -> Float[Array, "wanted vocab"]:
        return self.with_hidden(canvas, valid, positions)[0]

    def with_hidden(
        self, canvas: Tokens, valid: Mask, positions: Int[Array, " wanted"] | None = None
    ) -> tuple[Float[Array, "wanted vocab"], Float[Array, "wanted width"]]:
        """Logits, and the normalised hidden states that they were computed from."""
        return self.read(self.prefill(canvas, valid), positions)

    def prefill(self, canvas: Tokens, valid: Mask) -> KVCache:
        """What the network knows of every position of a canvas.

        Raises:
          ValueError: the canvas is longer than `max_length`.
        """
        if canvas.shape[0] > self.config.max_length:
            raise ValueError(
                f"a canvas of {canvas.shape[0]} is longer than max_length {self.config.max_length}"
            )
        return self._encode(canvas, jnp.arange(len(canvas)), valid)

    def extend(
        self, tokens: Int[Array, " slice"], start: Count, valid: Mask, kv_cache: KVCache
    ) -> KVCache:
        """`known` with the positions from `start` on computed anew for `tokens`.

        They attend to each other and to every other valid position as that was computed before.
        """
        places = start + jnp.arange(len(tokens))
        fresh = self._encode(tokens, places, valid, kv_cache.layers)
        hidden = jax.lax.dynamic_update_slice(kv_cache.hidden, fresh.hidden, (start, 0))
        return fresh._replace(hidden=hidden)

    def read(
        self, kv_cache: KVCache, positions: Int[Array, " wanted"] | None = None
    ) -> tuple[Float[Array, "wanted vocab"], Float[Array, "wanted width"]]:
        """float32 logits at `positions` (None: everywhere) and what they were computed from."""
        if positions is None:
            positions = jnp.arange(kv_cache.hidden.shape[0])
        rows = jnp.maximum(positions - 1, 0) if self.config.shifted else positions
        hidden = kv_cache.hidden[rows]
        head = self.head.astype(hidden.dtype)
        return jnp.dot(hidden, head.T, preferred_element_type=jnp.float32), hidden

    def with_verifier_logits(
        self,
        canvas: Tokens,
        valid: Mask,
        positions: Int[Array, " wanted"] | None,
        again: Int[Array, " doubted"],
        mask_id: int,
    ) -> tuple[Float[Array, "wanted vocab"], Float[Array, "doubted vocab"]]:
        """Logits at `positions`, and at `again` read off further MASKs that stand beside the canvas:
        each sees the others and all of the canvas but its own position, the canvas sees none of them.

        Raises:
          ValueError: the logits of a position are computed at another one.
        """
        if self.config.shifted:
            raise ValueError("no second look where a position's logits are computed at another one")
        length, beside = len(canvas), jnp.ones((len(again), len(again)), bool)
        others = valid & (jnp.arange(length) != again[:, None])
        among = jnp.broadcast_to(valid, (length, length))
        seen = jnp.block([[among, jnp.zeros_like(others.T)], [others, beside]])
        tokens = jnp.concatenate([canvas, jnp.full(again.shape, mask_id)])
        kv_cache = self._encode(tokens, jnp.concatenate([jnp.arange(length), again]), seen)
        wanted = jnp.arange(length) if positions is None else positions
        return self.read(kv_cache, wanted)[0], self.read(kv_cache, length + jnp.arange(len(again)))[
            0
        ]

    def _encode(
        self,
        tokens: Int[Array, " slice"],
        places: Int[Array, " slice"],
        valid: Seen,
        kept: tuple[KeyValue, ...] | None = None,
    ) -> KVCache:
        """Keys and values of every block, and final normalised hidden states, of tokens at their
        places. Among kept keys and values they take their own slots, from the first place on.
        """
        config = self.config
        x = self.embed[jnp.minimum(tokens, config.embeddings - 1)].astype(config.dtype)
        by = _angles(config, places)
        layers = []
        for number, block in enumerate(self.blocks):
            layer = None if kept is None else kept[number]
            x, kv_cache = block(x, by, valid, places[0], layer)
            layers.append(kv_cache)
        return KVCache(tuple(layers), self.final_norm(x))


def _angles(config: PretrainedConfig, places: Int[Array, " slice"]) -> RopeTable:
    cos, sin = rope_table(places, config.dim, config.rope_base)
    if not config.rounded_rope:
        return cos, sin
    # not a pair of casts, which a compiler may drop
    return jax.lax.reduce_precision(cos, 8, 7), jax.lax.reduce_precision(sin, 8, 7)


def _overwritten(kept: KeyValue | None, fresh: tuple[Heads, Heads], start: Count) -> KeyValue:
    """Keys and values of the whole canvas; the fresh ones are all there is when none were kept."""
    if kept is None:
        return fresh
    write = jax.lax.dynamic_update_slice
    return write(kept[0], fresh[0], (start, 0, 0)), write(kept[1], fresh[1], (start, 0, 0))


def _weight(module: nn.Module, name: str, shape: tuple[int, int]) -> Float[Array, "rows width"]:
    init = nn.initializers.normal(0.02)
    return module.param(name, init, shape, jnp.dtype(module.config.dtype))


def _norm(config: PretrainedConfig, name: str | None = None) -> nn.RMSNorm:
    dtype = jnp.dtype(config.dtype)
    return nn.RMSNorm(epsilon=config.norm_eps, dtype=dtype, param_dtype=dtype, name=name)
