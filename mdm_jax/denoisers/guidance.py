"""Classifier-free guidance: away from the logits without the prompt."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax.denoisers.base import Denoise
from mdm_jax.errors import MdmError
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Mask, Scalar, Tokens


def passes_per_call(denoise: Denoise) -> int:
    """Forward passes that one call makes."""
    return 2 if isinstance(denoise, Guided) else 1


@pytree_dataclass
class Guided:
    """u + (weight + 1)(c - u): logits c given the canvas and u given the response alone.

    A callable pytree that meets `Denoise`; one call passes two canvases through `denoise`. For u the
    `condition` is masked. Without one it is every valid position outside the wanted ones, so the wanted
    ones must be the response: the sampler needs its `gen_length`. Weight 0 is `denoise` itself, and an
    id that c excludes stays excluded.

    With `grows` the weight is multiplied by the share of the response that is revealed, as UniDisc
    (arXiv:2503.20853) has it with 1 - t.
    Reference: LLaDA, arXiv:2502.09992 (`cfg_scale`); SMDM, arXiv:2410.18514.
    """

    denoise: Denoise
    weight: float | Scalar
    mask_id: int = static()
    grows: bool = static(False)
    condition: tuple[int, ...] = static(())  # positions of what the prompt shows
    response: tuple[int, ...] = static(())  # positions that are generated; (): the wanted ones

    def __call__(
        self, canvas: Tokens, valid: Mask, positions: Int[Array, " wanted"] | None = None
    ) -> Float[Array, "wanted vocab"]:
        """Guided logits at `positions`.

        Raises:
          MdmError: no positions, so that prompt and response cannot be told apart.
        """
        if positions is None and not self.condition:
            raise MdmError("guidance masks all but the response: set the sampler's gen_length")
        is_prompt = self._prompt(valid, positions)
        both = jnp.stack([canvas, jnp.where(is_prompt, self.mask_id, canvas)])
        given, alone = jax.vmap(lambda one: self.denoise(one, valid, positions))(both)
        weight = self.weight * self._share(canvas, positions) if self.grows else self.weight
        guided = alone + (weight + 1.0) * (given - alone)
        return jnp.where((weight == 0) | jnp.isneginf(given), given, guided)

    def _prompt(self, valid: Mask, positions: Int[Array, " wanted"] | None) -> Mask:
        """What is masked for u."""
        if not self.condition:
            return valid.at[positions].set(False)
        return jnp.zeros_like(valid).at[jnp.array(self.condition)].set(True) & valid

    def _share(self, canvas: Tokens, positions: Int[Array, " wanted"] | None) -> Scalar:
        """The share of the response that is revealed."""
        response = jnp.array(self.response) if self.response else positions
        return jnp.mean((canvas if response is None else canvas[response]) != self.mask_id)
