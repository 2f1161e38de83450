"""A trained denoiser beside an oracle that says what depends on what."""

from jaxtyping import Array, Float, Int

from mdm_jax.denoisers.base import Denoise, DenoiseDependence
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Mask, Tokens


@pytree_dataclass
class WithExactDependence:
    """Logits of `denoise`, dependences of `oracle`: meets `DenoiseDependence`.

    What pairwise rules would do if they knew the dependences: the limit of every head that learns them.
    """

    denoise: Denoise
    oracle: DenoiseDependence

    def __call__(
        self, canvas: Tokens, valid: Mask, positions: Int[Array, " wanted"] | None = None
    ) -> Float[Array, "wanted vocab"]:
        return self.denoise(canvas, valid, positions)

    def with_dependence(
        self, canvas: Tokens, valid: Mask, positions: Int[Array, " wanted"] | None = None
    ) -> tuple[Float[Array, "wanted vocab"], Float[Array, "wanted wanted"]]:
        _, dependence = self.oracle.with_dependence(canvas, valid, positions)
        return self(canvas, valid, positions), dependence
