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

    A callable pytree that meets `Denoise`; one call passes two canvases through `denoise`. For u every
    valid position outside the wanted ones is masked, so the wanted ones must be the response: the
    sampler needs its `gen_length`. Weight 0 is `denoise` itself.
    Reference: LLaDA, arXiv:2502.09992 (`cfg_scale`); SMDM, arXiv:2410.18514.
    """

    denoise: Denoise
    weight: float | Scalar
    mask_id: int = static()

    def __call__(
        self, canvas: Tokens, valid: Mask, positions: Int[Array, " wanted"] | None = None
    ) -> Float[Array, "wanted vocab"]:
        """Guided logits at `positions`.

        Raises:
          MdmError: no positions, so that prompt and response cannot be told apart.
        """
        if positions is None:
            raise MdmError("guidance masks all but the response: set the sampler's gen_length")
        is_prompt = valid.at[positions].set(False)
        both = jnp.stack([canvas, jnp.where(is_prompt, self.mask_id, canvas)])
        given, alone = jax.vmap(lambda one: self.denoise(one, valid, positions))(both)
        return alone + (self.weight + 1.0) * (given - alone)
