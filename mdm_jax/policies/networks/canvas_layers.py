"""Dense layers over a whole short canvas: on it, some positions always belong together."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


def canvas_layers(
    inputs: Float[Array, "length inputs"], inner: int, shape: tuple[int, int]
) -> Float[Array, "max_length width"]:
    """One vector of `width` for each of `max_length` positions; layers of the module that calls it.

    Args:
      inner: width of the two layers that see all positions at once.
      shape: (max_length, width); shorter canvases are filled up with zeros.
    """
    whole = jnp.pad(inputs, ((0, shape[0] - len(inputs)), (0, 0))).ravel()
    hidden = nn.silu(nn.Dense(inner, name="canvas_1")(whole))
    hidden = nn.silu(nn.Dense(inner, name="canvas_2")(hidden))
    return nn.DenseGeneral(shape, name="canvas_out")(hidden)
