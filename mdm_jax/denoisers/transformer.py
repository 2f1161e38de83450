"""Bidirectional transformer, trained from scratch: RMSNorm, RoPE, SwiGLU, no biases, no time input.

Cost of one call: about 2 FLOPs per non-embedding parameter and position, 4 * width * length^2 per
layer for attention, 2 * width * vocab per position whose logits are wanted.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.denoisers.attention_kinds import AttentionKind, attention_weights, mix
from mdm_jax.denoisers.base import ATTENTION, KVCache
from mdm_jax.denoisers.packed import Packed, Sight, sight_of
from mdm_jax.denoisers.rope import apply_rope, grid_rope_table, rope_table
from mdm_jax.errors import MdmError, check_range
from mdm_jax.products import shared_dot_general
from mdm_jax.streams import OUTSIDE, Stream
from mdm_jax.types import Mask, Tokens

Hidden = Float[Array, "length width"]
Dtype = Literal["float32", "bfloat16"]

DEEPEST = 1000  # blocks; more is a slip of the finger
LATE = 0.3  # share of the blocks, the last ones, whose attention says what depends on what


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Shape and numerics. Parameters are float32, activations `dtype`.

    Attributes:
      width: of the residual stream.
      depth: blocks.
      heads: of the attention.
      mlp: inner width of the SwiGLU; None: 8/3 of the width, rounded up to a multiple of 8.
      attention: weights of the keys; sigmoid: each on its own (arXiv:2409.04431); scale-invariant: a
        softmax made for canvases longer than in training (arXiv:2505.17083).
      qk_norm: normalise queries and keys of each head.
      rope_base: base of the rotary frequencies.
      max_length: rows of a learned embedding of absolute positions, added to the tokens. Rotary
        positions encode distances alone, so on a canvas that is all MASK every position has the same
        logits; a grid needs absolute positions. None: rotary positions alone, any length.
      modality_embedding: add a learned embedding of each position's modality.
      grid_rope: rotary positions of two coordinates, rows and columns of images. Both are for tasks of
        several modalities.
      base_width, base_depth: of the network whose settings this one takes over by Complete(d)P
        (arXiv:2512.22382, Table 1), with heads as wide; None: its own.
      alpha: with a base depth, residual branches are multiplied by (base_depth / depth)^alpha, 1/2 to 1.
      dtype: of activations; parameters and logits' softmax stay float32.
      remat: recompute each block in the backward pass instead of keeping its activations.
      scan: one compiled block, scanned over stacked parameters; compiles faster when deep.

    Raises:
      MdmError: a value out of range, or heads that do not divide the width into even parts.
    """

    width: int = 64
    depth: int = 3
    heads: int = 4
    mlp: int | None = None
    attention: AttentionKind = "softmax"
    qk_norm: bool = True
    rope_base: float = 10_000.0
    max_length: int | None = None
    modality_embedding: bool = False
    grid_rope: bool = False
    base_width: int | None = None
    base_depth: int | None = None
    alpha: float = 1.0
    dtype: Dtype = "float32"
    remat: bool = False
    scan: bool = False

    def __post_init__(self) -> None:
        for name in ("width", "heads", "mlp", "max_length", "base_width", "base_depth"):
            check_range(name, getattr(self, name), 1)
        check_range("depth", self.depth, 1, DEEPEST)
        check_range("rope_base", self.rope_base, above=0)
        check_range("alpha", self.alpha, 0.5, 1)
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise MdmError(
                f"heads {self.heads} must divide width {self.width} into even parts (rotary pairs)"
            )
        if self.attention == "scale-invariant" and self.grid_rope:
            raise MdmError(
                "attention scale-invariant has one distance, grid_rope two coordinates: leave one out"
            )

    @property
    def mlp_width(self) -> int:
        return self.mlp or -(-8 * self.width // 24) * 8

    @property
    def wider(self) -> float:
        """The width as a multiple of the base's."""
        return self.width / (self.base_width or self.width)

    @property
    def deeper(self) -> float:
        """The depth as a multiple of the base's."""
        return self.depth / (self.base_depth or self.depth)

    @property
    def branch_scale(self) -> float:
        """What each branch is multiplied by before it is added to the residual stream."""
        return self.deeper**-self.alpha


def rotate(
    x: Float[Array, "length heads dim"],
    base: float,
    places: Int[Array, " length"] | Int[Array | np.ndarray, "length 2"] | None = None,
) -> Float[Array, "length heads dim"]:
    """Rotary position embedding, of positions (None: from 0 on) or of two coordinates each."""
    places = jnp.arange(x.shape[0]) if places is None else places
    table = rope_table if places.ndim == 1 else grid_rope_table
    cos, sin = table(jnp.asarray(places), x.shape[-1], base)
    return apply_rope(x, (cos.astype(x.dtype), sin.astype(x.dtype)))


class Attention(nn.Module):
    """Every position attends to those that it sees: all valid ones, or those of its own sample."""

    config: TransformerConfig
    stream: Stream | None = None

    @nn.compact
    def __call__(self, x: Hidden, sight: Sight) -> Hidden:
        config, dim = self.config, self.config.width // self.config.heads
        project = partial(_linear, config, features=(config.heads, dim))
        query, key, value = (project(name=name)(x) for name in ("query", "key", "value"))
        if config.qk_norm:
            query = _norm(config, "query_norm")(query)
            key = _norm(config, "key_norm")(key)
        places = sight.take(self.stream.coordinates) if config.grid_rope else sight.places
        query, key = (rotate(each, config.rope_base, places) for each in (query, key))
        if self.is_mutable_collection(ATTENTION) and not self.is_initializing():
            weights = attention_weights(config.attention, query, key, sight.visible)
            self.sow(ATTENTION, "weights", jnp.mean(weights, axis=0))
        mixed = mix(config.attention, query, key, value, sight.visible)
        return _linear(config, name="out", features=config.width, axis=(-2, -1), part="residual")(
            mixed
        )


class Block(nn.Module):
    """Pre-norm attention and SwiGLU, each added to the residual stream."""

    config: TransformerConfig
    stream: Stream | None = None

    @nn.compact
    def __call__(self, x: Hidden, sight: Sight) -> tuple[Hidden, None]:
        config = self.config
        attention = Attention(config, self.stream, name="attention")
        x = x + _branch(config, attention(_norm(config, "attention_norm")(x), sight))
        h = _norm(config, "mlp_norm")(x)
        gate = _linear(config, name="gate", features=config.mlp_width)(h)
        up = _linear(config, name="up", features=config.mlp_width)(h)
        down = _linear(config, name="down", features=config.width, part="residual")
        return x + _branch(config, down(nn.silu(gate) * up)), None


class Transformer(nn.Module):
    """Denoiser network of one sequence; meets `DenoiseHidden` once bound to parameters.

    `vocab` ids can be produced; the embedding has two more rows, for MASK and PAD. With `stream`, the
    logits of ids that a position's modality does not have are -inf.

    Raises:
      MdmError: the config wants to know the modalities, and there is no stream.
    """

    config: TransformerConfig
    vocab: int
    stream: Stream | None = None

    def __post_init__(self) -> None:
        if self.stream is None and (self.config.modality_embedding or self.config.grid_rope):
            raise MdmError(
                "modality_embedding and grid_rope are for tasks of several modalities: leave them out"
            )
        super().__post_init__()

    def __call__(
        self,
        canvas: Tokens,
        valid: Mask,
        positions: Int[Array, " wanted"] | None = None,
        packed: Packed | None = None,
    ) -> Float[Array, "wanted vocab"]:
        """Logits at `positions`; with `packed`, of a row of several samples, everywhere."""
        if packed is None:
            return self.with_hidden(canvas, valid, positions)[0]
        return self.read(KVCache((), self.hidden(canvas, valid, packed)), None, packed)[0]

    def with_hidden(
        self, canvas: Tokens, valid: Mask, positions: Int[Array, " wanted"] | None = None
    ) -> tuple[Float[Array, "wanted vocab"], Float[Array, "wanted width"]]:
        """Logits, and what they were computed from: `hidden` at the same positions."""
        return self.read(self.prefill(canvas, valid), positions)

    def prefill(self, canvas: Tokens, valid: Mask) -> KVCache:
        """Hidden states alone: for calls whose logits are read a part at a time.

        Raises:
          MdmError: the canvas is longer than `max_length`.
        """
        if self.config.max_length is not None and canvas.shape[0] > self.config.max_length:
            raise MdmError(
                f"a canvas of {canvas.shape[0]} is longer than max_length {self.config.max_length}"
            )
        return KVCache((), self.hidden(canvas, valid))

    @nn.compact
    def read(
        self,
        kv_cache: KVCache,
        positions: Int[Array, " wanted"] | None = None,
        packed: Packed | None = None,
    ) -> tuple[Float[Array, "wanted vocab"], Float[Array, "wanted width"]]:
        """Logits at `positions` (None: everywhere) and what they were computed from."""
        hidden = kv_cache.hidden if positions is None else kv_cache.hidden[positions]
        logits = _linear(self.config, name="unembed", features=self.vocab, part="unembedding")(
            hidden
        )
        if self.stream is not None:
            places = jnp.arange(len(hidden)) if positions is None else positions
            places = places if packed is None else packed.place
            logits = jnp.where(allowed_at(self.stream, self.vocab, places), logits, -jnp.inf)
        return logits, hidden

    def mean_attention(self, kept: Any) -> Float[Array, "length length"]:
        """Attention, mean over the last `LATE` of the layers, from what they kept of themselves.

        Reference: the layers that DAPD, arXiv:2603.12996, reads.
        """
        if self.config.scan:
            layers = kept["blocks"]["attention"]["weights"][0]
        else:
            blocks = [kept[f"block_{i}"] for i in range(self.config.depth)]
            layers = jnp.stack([block["attention"]["weights"][0] for block in blocks])
        return jnp.mean(layers[-math.ceil(LATE * self.config.depth) :], axis=0)

    @nn.compact
    def hidden(self, canvas: Tokens, valid: Mask, packed: Packed | None = None) -> Hidden:
        """Final normalised hidden states, [length, width]."""
        config, sight = self.config, sight_of(valid, packed)
        embed = nn.Embed(
            self.vocab + 2,
            config.width,
            dtype=_dtype(config),
            embedding_init=_init(config, "embedding"),
            name="embed",
        )
        x = embed(canvas)
        if config.max_length is not None:
            shape = (config.max_length, config.width)
            place = self.param("positions", _init(config, "embedding"), shape, jnp.float32)
            x = x + sight.take(place).astype(x.dtype)
        if config.modality_embedding:
            shape = (len(self.stream.spans) + 1, config.width)  # the last one: outside all of them
            of_modality = self.param("modalities", _init(config, "embedding"), shape, jnp.float32)
            x = x + of_modality[sight.take(self.stream.modality)].astype(x.dtype)
        block = nn.remat(Block, prevent_cse=not config.scan) if config.remat else Block
        if config.scan:
            layers = nn.scan(
                block,
                variable_axes={"params": 0, ATTENTION: 0},
                split_rngs={"params": True},
                in_axes=nn.broadcast,
                length=config.depth,
            )
            x, _ = layers(config, self.stream, name="blocks")(x, sight)
        else:
            for layer in range(config.depth):
                x, _ = block(config, self.stream, name=f"block_{layer}")(x, sight)
        return _norm(config, "final_norm")(x)


def allowed_at(
    stream: Stream, vocab: int, places: Int[Array, " wanted"]
) -> Bool[Array, "wanted vocab"]:
    """The rows of `stream.allowed` at some positions, without that table."""
    ids, outside = np.arange(vocab), np.ones(vocab, bool)
    for span in stream.spans:
        outside[span.first_id : span.first_id + span.ids] = False
    first = jnp.array([*(span.first_id for span in stream.spans), 0])
    end = jnp.array([*(span.first_id + span.ids for span in stream.spans), 0])
    number = jnp.asarray(stream.modality)[places, None]
    return jnp.where(number == OUTSIDE, outside, (ids >= first[number]) & (ids < end[number]))


def _dtype(config: TransformerConfig) -> jnp.dtype:
    return jnp.dtype(config.dtype)


Part = Literal["embedding", "hidden", "residual", "unembedding"]


def _init(config: TransformerConfig, part: Part = "hidden") -> nn.initializers.Initializer:
    """Normal; std sqrt(2 / (5 width)), and 1 / (sqrt(width) depth) into the residual stream (SMDM).

    With a base, the variance is the base's, times (base width / width) in hidden matrices and the square
    of that in the unembedding.
    """
    if part == "residual":
        return nn.initializers.normal(1 / (config.width**0.5 * (config.base_depth or config.depth)))
    power = {"embedding": 0.0, "hidden": 0.5, "unembedding": 1.0}[part]
    base = (0.4 / (config.base_width or config.width)) ** 0.5
    return nn.initializers.normal(base * config.wider**-power)


def _linear(
    config: TransformerConfig,
    *,
    name: str,
    features: int | tuple[int, ...],
    axis: int | tuple[int, ...] = -1,
    part: Part = "hidden",
) -> nn.DenseGeneral:
    return nn.DenseGeneral(
        features,
        axis=axis,
        use_bias=False,
        dtype=_dtype(config),
        kernel_init=_init(config, part),
        dot_general=shared_dot_general,
        name=name,
    )


def _branch(config: TransformerConfig, x: Hidden) -> Hidden:
    return x if config.branch_scale == 1.0 else x * config.branch_scale


def _norm(config: TransformerConfig, name: str) -> nn.RMSNorm:
    return nn.RMSNorm(epsilon=1e-5, dtype=_dtype(config), name=name)
