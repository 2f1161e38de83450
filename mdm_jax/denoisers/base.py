"""What a denoiser is, and how a Flax module becomes one."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax.errors import MdmError
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Count, Mask, Scalar, Tokens

ATTENTION = "attention"  # the collection in which modules keep it where they are asked to


@runtime_checkable
class Denoise(Protocol):
    """p(token | canvas) of one sequence: a callable pytree with its weights bound.

    Args:
      canvas: ids with MASK at unknown positions, right padded.
      valid: False at padding, which must not influence anything.
      positions: where logits are wanted, [wanted]; None: everywhere.

    Returns:
      Unnormalised log-probabilities [wanted, vocab]. Hidden states exist everywhere, the unembedding
      is computed only at `positions`.
    """

    def __call__(
        self, canvas: Tokens, valid: Mask, positions: Int[Array, " wanted"] | None = None
    ) -> Float[Array, "wanted vocab"]: ...


@runtime_checkable
class DenoiseHidden(Denoise, Protocol):
    """A `Denoise` that also gives its hidden states, for policies with those as features."""

    def with_hidden(
        self, canvas: Tokens, valid: Mask, positions: Int[Array, " wanted"] | None = None
    ) -> tuple[Float[Array, "wanted vocab"], Float[Array, "wanted width"]]:
        """The same logits, and the last normalised hidden states at `positions`, float32."""
        ...


@runtime_checkable
class DenoiseDependence(Denoise, Protocol):
    """A `Denoise` that also says how much positions depend on each other, for pairwise policies."""

    def with_dependence(
        self, canvas: Tokens, valid: Mask, positions: Int[Array, " wanted"] | None = None
    ) -> tuple[Float[Array, "wanted vocab"], Float[Array, "wanted wanted"]]:
        """The same logits, and for each pair of `positions` how much the first depends on the second.

        A network gives its attention, mean over heads and late layers; an oracle the mean total variation
        between p(x_i) and p(x_i | x_j), which is exact and in 0..1.
        """
        ...


@runtime_checkable
class DenoiseTimed(Denoise, Protocol):
    """A `Denoise` that depends on the time of the canvas, which the policy says (`Policy.time`)."""

    def at(self, t: Scalar) -> Denoise:
        """The denoiser of canvases at time t, 1 (all masked) to 0."""
        ...


@runtime_checkable
class DenoiseExact(Denoise, Protocol):
    """A `Denoise` with the exact conditionals of a known distribution."""

    mask_id: int

    @property
    def vocab(self) -> int:
        """Columns of the logits."""
        ...

    def log_prob(self, canvas: Tokens) -> Scalar:
        """Log-probability that a drawn sequence has the revealed tokens, nats."""
        ...

    def joint_entropy(self, canvas: Tokens, chosen: Mask) -> Scalar:
        """Entropy of the tokens at `chosen`, masked positions, given the revealed ones, nats."""
        ...


class KVCache(NamedTuple):
    """Key-value cache of one canvas."""

    layers: tuple[Any, ...]  # keys and values of each layer, [length, heads, dim]
    hidden: Float[Array, "length width"]  # final hidden states, which are unembedded


@runtime_checkable
class DenoiseCached(DenoiseHidden, Protocol):
    """A `DenoiseHidden` whose call can be split, so that a slice of the canvas is recomputed while
    the rest comes from a cache.

    `with_hidden(canvas, valid, positions)` is `read(prefill(canvas, valid), positions)`, and `extend`
    with the whole canvas as slice is `prefill`.
    """

    def prefill(self, canvas: Tokens, valid: Mask) -> KVCache:
        """The cache of the whole canvas."""
        ...

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
        """
        ...

    def read(
        self, kv_cache: KVCache, positions: Int[Array, " wanted"] | None = None
    ) -> tuple[Float[Array, "wanted vocab"], Float[Array, "wanted width"]]:
        """Logits and float32 hidden states at `positions`; None: everywhere."""
        ...


@runtime_checkable
class DenoiseVerifier(Denoise, Protocol):
    """A `Denoise` that also gives p(token | all the others), for policies that verify tokens."""

    def with_verifier_logits(
        self,
        canvas: Tokens,
        valid: Mask,
        positions: Int[Array, " wanted"] | None,
        again: Int[Array, " verified"],
        mask_id: int,
    ) -> tuple[Float[Array, "wanted vocab"], Float[Array, "verified vocab"]]:
        """The same logits at `positions`, and logits at `again` that do not see the tokens there."""
        ...


@pytree_dataclass
class Bound:
    """A Flax module with its parameters: meets `Denoise`. The parameters are leaves.

    Meets `DenoiseHidden` where the module has a method `with_hidden`, `DenoiseDependence` where it has
    `mean_attention`, `DenoiseCached` where it has `prefill`, `extend` and `read`, and `DenoiseVerifier`
    where it has `with_verifier_logits`.
    """

    module: Any = static()
    params: Any

    def __call__(
        self, canvas: Tokens, valid: Mask, positions: Int[Array, " wanted"] | None = None
    ) -> Float[Array, "wanted vocab"]:
        return self.module.apply({"params": self.params}, canvas, valid, positions)

    def with_hidden(
        self, canvas: Tokens, valid: Mask, positions: Int[Array, " wanted"] | None = None
    ) -> tuple[Float[Array, "wanted vocab"], Float[Array, "wanted width"]]:
        _require(self.module, "with_hidden", "gives no hidden states")
        arguments = {"params": self.params}, canvas, valid, positions
        logits, hidden = self.module.apply(*arguments, method="with_hidden")
        return logits, hidden.astype(jnp.float32)

    def prefill(self, canvas: Tokens, valid: Mask) -> KVCache:
        _require(self.module, "prefill", "cannot be split")
        return self.module.apply({"params": self.params}, canvas, valid, method="prefill")

    def extend(
        self,
        tokens: Int[Array, " slice"],
        start: Count,
        valid: Mask,
        kv_cache: KVCache,
        first: Count | int = 0,
    ) -> KVCache:
        _require(self.module, "extend", "keeps no cache")
        arguments = {"params": self.params}, tokens, start, valid, kv_cache, first
        return self.module.apply(*arguments, method="extend")

    def read(
        self, kv_cache: KVCache, positions: Int[Array, " wanted"] | None = None
    ) -> tuple[Float[Array, "wanted vocab"], Float[Array, "wanted width"]]:
        arguments = {"params": self.params}, kv_cache, positions
        logits, hidden = self.module.apply(*arguments, method="read")
        return logits, hidden.astype(jnp.float32)

    def with_dependence(
        self, canvas: Tokens, valid: Mask, positions: Int[Array, " wanted"] | None = None
    ) -> tuple[Float[Array, "wanted vocab"], Float[Array, "wanted wanted"]]:
        _require(self.module, "mean_attention", "gives no attention")
        arguments = {"params": self.params}, canvas, valid, positions
        logits, kept = self.module.apply(*arguments, mutable=[ATTENTION])
        attention = self.module.mean_attention(kept[ATTENTION])
        return logits, attention if positions is None else attention[positions][:, positions]

    def with_verifier_logits(
        self,
        canvas: Tokens,
        valid: Mask,
        positions: Int[Array, " wanted"] | None,
        again: Int[Array, " verified"],
        mask_id: int,
    ) -> tuple[Float[Array, "wanted vocab"], Float[Array, "verified vocab"]]:
        _require(self.module, "with_verifier_logits", "gives no verifier logits")
        arguments = {"params": self.params}, canvas, valid, positions, again, mask_id
        return self.module.apply(*arguments, method="with_verifier_logits")


def _require(module: Any, method: str, lack: str) -> None:
    if not hasattr(module, method):
        raise MdmError(f"{type(module).__name__} {lack}: it has no method {method}")


def bind(module: Any, params: Any) -> Bound:
    """The denoiser that `module` is with these parameters."""
    return Bound(module=module, params=params)


def is_split(denoise: Denoise) -> bool:
    """Whether a call can be made as `prefill`, then `read` of some positions after others."""
    return hasattr(getattr(denoise, "module", denoise), "read")


def logit_columns(denoise: Denoise, length: int) -> int:
    """Columns of the logits of a canvas of `length` positions; nothing is computed."""
    canvas = jax.ShapeDtypeStruct((length,), jnp.int32)
    valid = jax.ShapeDtypeStruct((length,), bool)
    return jax.eval_shape(denoise, canvas, valid).shape[-1]


def hidden_width(denoise: Denoise | None) -> int:
    """Features of the denoiser's hidden states (1 where it has none)."""
    return getattr(getattr(getattr(denoise, "module", None), "config", None), "width", 1)
