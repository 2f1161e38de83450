"""Where a response ends: before its first EOS."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int


def before_eos(
    tokens: Int[Array | np.ndarray, " length"],
    is_response: Bool[Array | np.ndarray, " length"],
    eos_id: int,
) -> Bool[Array, " length"]:
    """Response positions before the first EOS of the response; all of them when it has none."""
    is_eos = jnp.asarray(is_response) & (jnp.asarray(tokens) == eos_id)
    return is_response & (jnp.cumsum(is_eos) == 0)
