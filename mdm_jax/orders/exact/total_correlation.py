"""The price of revealing a set of positions in one call."""

import jax.numpy as jnp

from mdm_jax.denoisers.base import DenoiseExact
from mdm_jax.policies.base import entropy
from mdm_jax.types import Mask, Scalar, Tokens


def total_correlation(oracle: DenoiseExact, canvas: Tokens, chosen: Mask) -> Scalar:
    """sum_i H(X_i | canvas) - H(X_chosen | canvas), nats: what is lost where tokens at `chosen`, masked
    positions, are drawn independently of each other.

    It is KL(p(x_chosen | canvas) || prod_i p(x_i | canvas)), 0 for a single position. Along an order
    these add up to the whole KL(data || sampler): the chain rule.
    """
    alone = entropy(oracle(canvas, jnp.ones(canvas.shape, bool)))
    return jnp.sum(jnp.where(chosen, alone, 0.0)) - oracle.joint_entropy(canvas, chosen)
