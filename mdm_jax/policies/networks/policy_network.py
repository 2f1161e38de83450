"""A policy network for canvases of one length: features, position and steps left."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax.chunks import kept
from mdm_jax.denoisers.packed import Sight
from mdm_jax.denoisers.transformer import Block, TransformerConfig
from mdm_jax.errors import check_range
from mdm_jax.policies.action_distributions import Utilities
from mdm_jax.policies.base import confidence, entropy, margin
from mdm_jax.policies.networks.canvas_layers import canvas_layers
from mdm_jax.types import Count, Logits, Mask, RowKey, Scalar


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Shape of the network of an unmasking policy, and its features.

    Attributes:
      width: of the residual stream.
      depth: transformer blocks.
      heads: of the attention.
      canvas: inner width of two dense layers over all positions at once; 0: none.
      confidence: top-1 probability as a feature.
      margin: top-1 minus top-2 probability as a feature.
      entropy: entropy in nats as a feature.
      hidden: the denoiser's last hidden states as features.
    """

    width: int = 64
    depth: int = 1
    heads: int = 4
    canvas: int = 0
    confidence: bool = True
    margin: bool = True
    entropy: bool = True
    hidden: bool = False

    def __post_init__(self) -> None:
        TransformerConfig(width=self.width, depth=max(self.depth, 1), heads=self.heads)
        for name in ("depth", "canvas"):
            check_range(name, getattr(self, name), 0)


class StepFeatures(NamedTuple):
    """The features of one step: no logits, so that they can be stored."""

    features: Float[Array, "length features"]
    left: Count
    hidden: Float[Array, "length width"] | None


class PolicyNetwork(nn.Module):
    """Utilities of one step of one sequence.

    `max_length` positions and up to `max_steps` steps left are told apart by learned embeddings;
    more steps left look like `max_steps`. `table` is the part that knows nothing else: it starts as
    the Ancestral sampler, which reveals each position with probability 1 / steps left.
    """

    any_length: ClassVar[bool] = False

    config: PolicyConfig
    max_length: int
    max_steps: int

    def __call__(
        self,
        logits: Logits,
        is_masked: Mask,
        left: Count,
        hidden: Float[Array, "length width"] | None = None,
    ) -> Utilities:
        return self.utilities(self.featurize(logits, is_masked, left, hidden))

    def featurize(
        self,
        logits: Logits,
        is_masked: Mask,
        left: Count,
        hidden: Float[Array, "length width"] | None = None,
        time: Scalar | float = 0.0,
    ) -> StepFeatures:
        """Its input, of which `utilities` is a function; `time` is not looked at."""
        features = self._features(logits, is_masked), hidden if self.config.hidden else None
        features, hidden = kept(features)
        return StepFeatures(features, left, hidden)

    @nn.compact
    def utilities(self, features: StepFeatures) -> Utilities:
        """Utilities from the features."""
        config, left, length = self.config, features.left, len(features.features)
        shape = TransformerConfig(
            width=config.width, depth=max(config.depth, 1), heads=config.heads
        )
        init = nn.initializers.normal(0.3)
        x = nn.Dense(config.width, name="features")(features.features)
        if config.hidden:
            x += nn.Dense(config.width, name="hidden")(
                nn.RMSNorm(name="hidden_norm")(features.hidden)
            )
        x += self.param("positions", init, (self.max_length, config.width), jnp.float32)[:length]
        if config.canvas:
            shape_of_all = self.max_length, config.width
            x += canvas_layers(self._with_left(features), config.canvas, shape_of_all)[:length]
        steps = nn.Embed(self.max_steps + 1, config.width, embedding_init=init, name="steps")
        x += steps(jnp.clip(left, 0, self.max_steps))[None, :]
        for layer in range(config.depth):
            x, _ = Block(shape, name=f"block_{layer}")(x, Sight(jnp.ones((1, length), bool)))
        x = nn.RMSNorm(name="final_norm")(x)
        utilities = nn.Dense(1, kernel_init=nn.initializers.zeros, name="utility")(x)[:, 0]
        table = self.param("table", _ancestral_table, (self.max_steps + 1, self.max_length))
        return utilities + table[jnp.clip(left, 0, self.max_steps), :length]

    def _features(self, logits: Logits, is_masked: Mask) -> Float[Array, "length features"]:
        """Of each position: features of the logits, 0 where not masked; whether it is masked; the share
        of masked positions.
        """
        config = self.config
        wanted = (
            (config.confidence, confidence),
            (config.margin, margin),
            (config.entropy, entropy),
        )
        values = [jnp.where(is_masked, read(logits), 0.0) for use, read in wanted if use]
        share = jnp.mean(is_masked.astype(jnp.float32))
        return jnp.stack([*values, is_masked, jnp.full(is_masked.shape, share)], axis=-1)

    def _with_left(self, features: StepFeatures) -> Float[Array, "length inputs"]:
        """The features, and which number of steps is left as one more column each."""
        left = jnp.clip(features.left, 0, self.max_steps)
        steps = jax.nn.one_hot(left, self.max_steps + 1)
        length = len(features.features)
        return jnp.concatenate(
            [features.features, jnp.broadcast_to(steps, (length, len(steps)))], axis=-1
        )

    @staticmethod
    def hidden_features(params: Any) -> int | None:
        """Of the denoiser's hidden states, how many these parameters look at; None: at none."""
        return params["hidden"]["kernel"].shape[0] if "hidden" in params else None


def _ancestral_table(key: RowKey, shape: tuple[int, int]) -> Float[Array, "steps length"]:
    """logit(1 / left) at every position."""
    left = jnp.arange(shape[0], dtype=jnp.float32)[:, None]
    return jnp.broadcast_to(-jnp.log(jnp.maximum(left - 1.0, 0.5)), shape)


def start_table(
    params: Any,
    orders: Int[Array, "orders length"],
    shares: Float[Array, " orders"],
    certainty: float,
) -> Any:
    """Network parameters that reveal by a static order, or each of several with a probability.

    Args:
      shares: probability of each order.
      certainty: utilities, the log-odds of now against later, stay within +- this; nats.
    """
    left = jnp.arange(params["table"].shape[0])
    now = orders[:, None, :] <= (jnp.max(left) - left)[None, :, None]
    share = jnp.tensordot(shares, now.astype(jnp.float32), 1)
    return params | {"table": jnp.clip(jax.scipy.special.logit(share), -certainty, certainty)}
