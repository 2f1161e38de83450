"""The denoiser contract, and the one way to make a network meet it."""

from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Mask, Tokens


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
    """A `Denoise` that also gives its hidden states, for policies that look at them."""

    def with_hidden(
        self, canvas: Tokens, valid: Mask, positions: Int[Array, " wanted"] | None = None
    ) -> tuple[Float[Array, "wanted vocab"], Float[Array, "wanted width"]]:
        """The same logits, and the last normalised hidden states at `positions`, float32."""
        ...


@pytree_dataclass
class Bound:
    """A Flax module with its parameters: meets `Denoise`. The parameters are leaves.

    Meets `DenoiseHidden` where the module has a method `with_hidden`.
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
        name = type(self.module).__name__
        if not hasattr(self.module, "with_hidden"):
            raise ValueError(f"{name} gives no hidden states: it has no method with_hidden")
        arguments = {"params": self.params}, canvas, valid, positions
        logits, hidden = self.module.apply(*arguments, method="with_hidden")
        return logits, hidden.astype(jnp.float32)


def bind(module: Any, params: Any) -> Bound:
    """The denoiser that `module` is with these parameters."""
    return Bound(module=module, params=params)
