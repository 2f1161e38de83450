"""The head that predicts how much positions depend on each other from the denoiser's hidden states."""

from dataclasses import dataclass
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdm_jax.errors import check_range


@dataclass(frozen=True, kw_only=True)
class PairConfig:
    """Shape of the head.

    Attributes:
      width: of its one hidden layer, and of the vectors whose products are the predictions.
    """

    width: int = 64

    def __post_init__(self) -> None:
        check_range("width", self.width, 1)


class PairNetwork(nn.Module):
    """Logits of dependences: u_i . v_j / sqrt(width) + b, u and v being dense layers on features of the
    hidden states of positions i and j. O(length^2 width); there is no position but in the hidden states,
    so responses may have any length.

    Reference: the bilinear head of DEMASK, arXiv:2604.02560, reported second-hand.
    """

    any_length: ClassVar[bool] = True

    config: PairConfig = PairConfig()

    @nn.compact
    def __call__(self, hidden: Float[Array, "length features"]) -> Float[Array, "length length"]:
        width = self.config.width
        x = nn.silu(nn.Dense(width, name="features")(hidden))
        rows, columns = (nn.Dense(width, name=name)(x) for name in ("rows", "columns"))
        bias = self.param("bias", nn.initializers.constant(-2.0), ())
        return rows @ columns.T * width**-0.5 + bias

    def hidden_features(self, params: Any) -> int:
        """Width of the hidden states that these parameters take."""
        return jnp.shape(params["features"]["kernel"])[0]
