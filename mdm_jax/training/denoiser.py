"""Training a denoiser: its parameters at the start."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mdm_jax.training.state import Params


def init_params(module: nn.Module, key: jax.Array, length: int, mask_id: int) -> Params:
    """Fresh parameters of a denoiser for canvases of `length` positions."""
    canvas = jnp.full((length,), mask_id)
    return module.init(key, canvas, jnp.ones(canvas.shape, bool))["params"]
