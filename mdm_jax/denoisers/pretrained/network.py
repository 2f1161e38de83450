"""The network that LLaDA, Dream and SMDM have in common: pre-norm blocks of bidirectional attention
and SwiGLU, RMSNorm, RoPE, an untied head. Each family's own file says how its config.json maps here.

Every position attends to every valid position; padding is never attended to. Weights keep their
published layout [outputs, inputs].

Cost of one call: as `mdm_jax.denoisers.transformer`. For samplers with a key-value cache a call is
split: `prefill` computes keys, values and hidden states of the whole canvas, `extend` recomputes those
of a slice, `read` unembeds (Fast-dLLM, arXiv:2505.22618).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax.denoisers.base import KVCache
from mdm_jax.denoisers.pretrained.config import PretrainedConfig
from mdm_jax.denoisers.pretrained.layers import (
    Block,
    KeyValue,
    Place,
    Visible,
    norm,
    weight,
    written,
)
from mdm_jax.denoisers.rope import RopeTable, rope_table
from mdm_jax.errors import MdmError
from mdm_jax.types import Count, Mask, Tokens


class PretrainedTransformer(nn.Module):
    """Denoiser network of one sequence; meets `DenoiseHidden` and `DenoiseCached` once bound."""

    config: PretrainedConfig

    def setup(self) -> None:
        config = self.config
        self.embed = weight(self, "embed", (config.embeddings, config.width))
        block = nn.remat(Block)  # computed again in a backward pass; without one nothing changes
        self.blocks = [block(config, name=f"block_{i}") for i in range(config.depth)]
        self.final_norm = norm(config, "final_norm")
        self.head = weight(self, "head", (config.vocab, config.width))

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
        """Keys, values and final hidden states of every position of a canvas.

        Raises:
          MdmError: the canvas is longer than `max_length`.
        """
        if canvas.shape[0] > self.config.max_length:
            raise MdmError(
                f"a canvas of {canvas.shape[0]} is longer than max_length {self.config.max_length}"
            )
        return self._encode(canvas, jnp.arange(len(canvas)), valid)

    def extend(
        self,
        tokens: Int[Array, " slice"],
        start: Count,
        valid: Mask,
        kv_cache: KVCache,
        first: Count | int = 0,
    ) -> KVCache:
        """`kv_cache` with the positions from `start` on recomputed for `tokens`, but those before
        `tokens[first]` left as they are.

        They attend to each other and to the cached keys and values of all other valid positions.
        """
        place = Place(start, first)
        positions = start + jnp.arange(len(tokens))
        fresh = self._encode(tokens, positions, valid, kv_cache.layers, place)
        return fresh._replace(hidden=written(kv_cache.hidden, fresh.hidden, place))

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
        again: Int[Array, " verified"],
        mask_id: int,
    ) -> tuple[Float[Array, "wanted vocab"], Float[Array, "verified vocab"]]:
        """Logits at `positions`, and logits at `again` that do not see the tokens there.

        The latter are read off MASKs appended to the canvas, which take the positions `again`: each
        attends to the other appended ones and to the canvas without its own position; the canvas does
        not attend to them.

        Raises:
          MdmError: the logits of a position are computed at another one (Dream).
        """
        if self.config.shifted:
            raise MdmError("a denoiser with shifted logits has no verifier logits")
        length, appended = len(canvas), jnp.ones((len(again), len(again)), bool)
        others = valid[None, :] & (jnp.arange(length)[None, :] != again[:, None])
        canvas_rows = jnp.broadcast_to(valid, (length, length))
        visible = jnp.block([[canvas_rows, jnp.zeros_like(others.T)], [others, appended]])
        tokens = jnp.concatenate([canvas, jnp.full(again.shape, mask_id)])
        kv_cache = self._encode(tokens, jnp.concatenate([jnp.arange(length), again]), visible)
        wanted = jnp.arange(length) if positions is None else positions
        verifier = length + jnp.arange(len(again))
        return self.read(kv_cache, wanted)[0], self.read(kv_cache, verifier)[0]

    def _encode(
        self,
        tokens: Int[Array, " slice"],
        positions: Int[Array, " slice"],
        visible: Visible,
        cached: tuple[KeyValue, ...] | None = None,
        place: Place | None = None,
    ) -> KVCache:
        """Keys and values of every block, and final normalised hidden states, of tokens at their
        positions. Where keys and values are cached, those of the slice replace theirs at their place.
        """
        config = self.config
        x = self.embed[jnp.minimum(tokens, config.embeddings - 1)].astype(config.dtype)
        rope = _rope_table(config, positions)
        layers = []
        for number, block in enumerate(self.blocks):
            layer = None if cached is None else cached[number]
            x, kv_cache = block(x, rope, visible, place, layer)
            layers.append(kv_cache)
        return KVCache(tuple(layers), self.final_norm(x))


def _rope_table(config: PretrainedConfig, positions: Int[Array, " slice"]) -> RopeTable:
    cos, sin = rope_table(positions, config.dim, config.rope_base)
    if not config.rounded_rope:
        return cos, sin
    # not a pair of casts, which a compiler may drop
    return jax.lax.reduce_precision(cos, 8, 7), jax.lax.reduce_precision(sin, 8, 7)
