"""A policy network for canvases of any length that starts at a heuristic and knows the price of a call.

Utilities are a heuristic's, `start`, plus what a small transformer adds, nearly 0 before training. It
sees the denoiser's confidence, margin and entropy where something is masked, how much is masked, what a
call costs, and how many may still be made.
"""

from dataclasses import asdict, dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdm_jax.denoisers.packed import Sight
from mdm_jax.denoisers.transformer import Block, TransformerConfig
from mdm_jax.errors import MdmError, check_range
from mdm_jax.policies.action_distributions import Utilities
from mdm_jax.policies.base import Scores, confidence, entropy, margin
from mdm_jax.policies.networks.canvas_layers import canvas_layers
from mdm_jax.policies.pair_costs import SetScores, independent
from mdm_jax.types import Mask, Observation, Scalar

CERTAIN = 0.02  # nats: below it a position counts as determined
TYPICAL_PRICE = 0.05  # what the network sees as 0


Inputs = Float[Array, "length inputs"]


class AdaptiveFeatures(NamedTuple):
    """What the network sees of one step: no logits, so it can be kept."""

    confidence: Scores  # of masked positions; 0 elsewhere, as are margin and entropy
    margin: Scores
    entropy: Scores
    is_masked: Mask
    eligible: Mask
    price: Scalar  # of a denoiser call; 1 is what a faithful sequence is worth
    calls_left: Scalar  # this one included; inf where there is no limit to mind


@runtime_checkable
class Start(Protocol):
    """Utilities of a heuristic, at which learning starts."""

    def __call__(self, features: AdaptiveFeatures) -> Utilities: ...


def _check_finite(start: Start) -> None:
    for name, value in asdict(start).items():
        check_range(name, value)


@dataclass(frozen=True, kw_only=True)
class EntropyStart:
    """max(offset - slope * entropy, floor): reveals what is nearly determined.

    `eagerness` is added to the offset for each e-fold of the price above `TYPICAL_PRICE`.
    """

    offset: float = 4.0
    slope: float = 8.0
    floor: float = -2.0
    eagerness: float = 0.0

    def __post_init__(self) -> None:
        _check_finite(self)

    def __call__(self, features: AdaptiveFeatures) -> Utilities:
        eager = self.eagerness * jnp.maximum(log_price(features), 0.0)
        return jnp.maximum(self.offset + eager - self.slope * features.entropy, self.floor)


@dataclass(frozen=True, kw_only=True)
class ConfidenceStart:
    """clip(slope * (logit confidence - logit threshold), floor, ceiling): a confidence threshold.

    `eagerness` is added before clipping for each e-fold of the price above `TYPICAL_PRICE`, and
    `patience` subtracted for each below.
    """

    threshold: float = 0.85
    slope: float = 1.5
    floor: float = -4.0
    ceiling: float = 5.0
    eagerness: float = 0.0
    patience: float = 0.0

    def __post_init__(self) -> None:
        _check_finite(self)
        check_range("threshold", self.threshold, 0, 1)

    def __call__(self, features: AdaptiveFeatures) -> Utilities:
        odds = _logit(features.confidence) - _logit(jnp.asarray(self.threshold))
        price = log_price(features)
        shift = jnp.where(price > 0, self.eagerness, self.patience) * price
        return jnp.clip(self.slope * odds + shift, self.floor, self.ceiling)


@dataclass(frozen=True, kw_only=True)
class AdaptiveConfig:
    """Shape of the network.

    Attributes:
      width: of the residual stream.
      depth: transformer blocks; 0 where dense layers over the whole canvas suffice.
      heads: of the attention.
      max_length: positions that it can tell apart; longer responses are refused. None: it sees
        distances alone, and takes any length.
      canvas: inner width of two dense layers over all positions at once, where `max_length` is given:
        on a short canvas some positions always belong together, and attention takes long to find out
        which. 0: none.
      start: the heuristic that it starts at.
      pair_costs: rank of what reveals cost one another (`policies.pair_costs`); 0: nothing.
    """

    width: int = 32
    depth: int = 1
    heads: int = 4
    max_length: int | None = None
    canvas: int = 256
    start: Start = EntropyStart()
    pair_costs: int = 0

    def __post_init__(self) -> None:
        check_range("max_length", self.max_length, 1)
        for name in ("depth", "canvas", "pair_costs"):
            check_range(name, getattr(self, name), 0)
        self.block_config()

    def block_config(self) -> TransformerConfig:
        """Shape of a block."""
        return TransformerConfig(width=self.width, depth=max(self.depth, 1), heads=self.heads)


class Trunk(nn.Module):
    """One vector for each position, from a row of numbers for each."""

    config: AdaptiveConfig

    @nn.compact
    def __call__(self, inputs: Inputs) -> Float[Array, "length width"]:
        """Dense layers, the blocks, and a norm."""
        config = self.config
        x = nn.Dense(config.width, name="features")(inputs)
        if config.max_length is not None:
            x += self._of_positions(inputs)
        for layer in range(config.depth):
            block = Block(config.block_config(), name=f"block_{layer}")
            x, _ = block(x, Sight(jnp.ones((1, len(x)), bool)))
        return nn.RMSNorm(name="final_norm")(x)

    def _of_positions(self, inputs: Inputs) -> Float[Array, "length width"]:
        """What depends on where something is: an embedding, and layers over the whole canvas."""
        config, length = self.config, len(inputs)
        if length > config.max_length:
            raise MdmError(f"{length} positions, more than max_length {config.max_length}")
        shape = (config.max_length, config.width)
        x = self.param("positions", nn.initializers.normal(0.3), shape, jnp.float32)
        if config.canvas:
            x += canvas_layers(inputs, config.canvas, shape)
        return x[:length]


class AdaptiveNetwork(nn.Module):
    """Utilities of one step of one sequence, and what reveals cost one another there.

    Before training they are those of `config.start` but for a little that tells positions apart, which
    breaks ties in an order that each seed draws, and reveals cost one another nothing.
    """

    config: AdaptiveConfig = AdaptiveConfig()

    @property
    def any_length(self) -> bool:
        """Whether it takes windows of other lengths than the one it was trained on."""
        return self.config.max_length is None

    @nn.compact
    def __call__(self, features: AdaptiveFeatures) -> SetScores:
        """What a set of positions is drawn from."""
        x = Trunk(self.config, name="trunk")(inputs_of(features))
        learned = nn.Dense(1, kernel_init=nn.initializers.normal(1e-2), name="utility")(x)[:, 0]
        utilities, rank = self.config.start(features) + learned, self.config.pair_costs
        if not rank:
            return independent(utilities)
        zeros = nn.initializers.zeros
        left = nn.Dense(rank, use_bias=False, kernel_init=zeros, name="left")(x)
        return SetScores(utilities, left, nn.Dense(rank, use_bias=False, name="right")(x))


def features_of(observation: Observation, price: Scalar, calls_left: Scalar) -> AdaptiveFeatures:
    """What the network sees of one step."""
    is_masked, logits = observation.is_masked, observation.logits
    scores = [jnp.where(is_masked, f(logits), 0.0) for f in (confidence, margin, entropy)]
    return AdaptiveFeatures(*scores, is_masked, observation.eligible, price, calls_left)


def blank_features(length: int, leading: tuple[int, ...] = ()) -> AdaptiveFeatures:
    """Features of a finished canvas, with leading axes."""
    shape, ones = (*leading, length), jnp.ones((2, *leading), jnp.float32)
    scores, masks = jnp.zeros(shape, jnp.float32), jnp.zeros(shape, bool)
    return AdaptiveFeatures(scores, scores, scores, masks, masks, *ones)


def log_price(features: AdaptiveFeatures) -> Scalar:
    """log(price / `TYPICAL_PRICE`)."""
    return jnp.log(jnp.maximum(features.price, 1e-6) / TYPICAL_PRICE)


def inputs_of(features: AdaptiveFeatures) -> Inputs:
    """One row per position; confidence and entropy also on log scales, where thresholds lie evenly."""
    masked, shape = features.is_masked, features.entropy.shape
    per_position = (
        features.confidence,
        features.margin,
        features.entropy,
        jnp.where(masked, jnp.log(features.entropy + 1e-3) / 4, 0.0),
        masked,
        features.eligible,
        masked & (features.entropy < CERTAIN),
    )
    shared = (
        jnp.mean(masked.astype(jnp.float32)),
        jnp.sum(features.entropy) / jnp.maximum(jnp.sum(masked), 1),
        jnp.mean((masked & (features.entropy < CERTAIN)).astype(jnp.float32)),
        log_price(features) / 2,
        1.0 / features.calls_left,
    )
    columns = [*per_position, *(jnp.full(shape, x) for x in shared)]
    return jnp.stack([jnp.asarray(x, jnp.float32) for x in columns], axis=-1)


def _logit(p: Array) -> Array:
    p = jnp.clip(p, 1e-6, 1 - 1e-6)
    return jnp.log(p) - jnp.log1p(-p)
