"""What a set of positions leads to: the network that a policy with a price is trained against."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdm_jax.policies.networks.adaptive_network import (
    TYPICAL_PRICE,
    AdaptiveConfig,
    AdaptiveFeatures,
    Trunk,
    inputs_of,
)
from mdm_jax.types import Mask, Scalar


class Prediction(NamedTuple):
    """What follows once a set has been revealed."""

    nats: Float[Array, " length"]  # lost where each position that is still masked is revealed
    calls: Scalar  # further denoiser calls
    survival: Scalar  # of what was shown before: see `explore.Steps`


class CriticNetwork(nn.Module):
    """A prediction from the features of a step and the set that is revealed there."""

    config: AdaptiveConfig = AdaptiveConfig()

    @nn.compact
    def __call__(self, features: AdaptiveFeatures, chosen: Mask) -> Prediction:
        """Nats and calls are 0 where nothing is left; the survival does not depend on the set."""
        left = features.is_masked & ~chosen
        x = Trunk(self.config, name="trunk")(_inputs(features, chosen, left))
        nats = nn.softplus(nn.Dense(1, name="nats")(x)[:, 0] - 1.0)
        calls = 1.0 + nn.softplus(jnp.mean(nn.Dense(1, name="calls")(x)))
        seen = inputs_of(features._replace(price=jnp.asarray(TYPICAL_PRICE)))
        state = jnp.mean(Trunk(self.config, name="state")(seen), axis=0)
        survival = nn.sigmoid(nn.Dense(1, name="survival")(state)[0] + 3.0)
        return Prediction(
            jnp.where(left, nats, 0.0), jnp.where(jnp.any(left), calls, 0.0), survival
        )


def _inputs(features: AdaptiveFeatures, chosen: Mask, left: Mask) -> Float[Array, "length inputs"]:
    """The policy's inputs, the set, and what it leaves."""
    entropy = jnp.where(left, features.entropy, 0.0)
    shared = jnp.mean(left.astype(jnp.float32)), jnp.sum(entropy) / 5
    columns = [chosen, left, entropy, *(jnp.full(left.shape, x) for x in shared)]
    columns = [jnp.asarray(x, jnp.float32) for x in columns]
    return jnp.concatenate([inputs_of(features), jnp.stack(columns, axis=-1)], axis=-1)
