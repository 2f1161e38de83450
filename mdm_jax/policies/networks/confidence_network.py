"""The unmasking policy of Jazbec et al. (arXiv:2512.09106): from token confidences to utilities.

One transformer block over the response; mask bit and time enter only through adaptive layer norm. With
the defaults it has 331,265 parameters and costs about 0.4 MFLOPs per position and call.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdm_jax.denoisers.transformer import rotate
from mdm_jax.errors import MdmError, check_range
from mdm_jax.policies.action_distributions import Utilities
from mdm_jax.products import shared_dot_general
from mdm_jax.types import Count, Logits, Mask, Scalar

Hidden = Float[Array, "length width"]


@dataclass(frozen=True, kw_only=True)
class ConfidenceConfig:
    """Sizes and input features of the network.

    Attributes:
      width: of the residual stream.
      heads: of the attention.
      mlp: inner width of the feed-forward layer.
      top_p: how many of the largest probabilities of each position are features.
      hidden: the features are the denoiser's last hidden states instead.
      bias: utility of every position before training; -2 reveals 12 % of them.
      time_period: longest period of the sinusoids that encode time.

    Raises:
      MdmError: a value out of range, or heads that do not divide the width into even parts.
    """

    width: int = 128
    heads: int = 2
    mlp: int = 512
    top_p: int = 1
    hidden: bool = False
    bias: float = -2.0
    time_period: float = 1.0

    def __post_init__(self) -> None:
        for name in ("width", "heads", "mlp", "top_p"):
            check_range(name, getattr(self, name), 1)
        check_range("bias", self.bias)
        check_range("time_period", self.time_period, above=0)
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise MdmError(
                f"heads {self.heads} must divide width {self.width} into even parts (rotary pairs)"
            )


class ConfidenceFeatures(NamedTuple):
    """Input of one step."""

    values: Float[Array, "length features"] | None  # largest probabilities, or in their place
    hidden: Hidden | None  # the denoiser's hidden states
    is_masked: Mask
    time: Scalar  # denoiser calls so far / length


class ConfidenceNetwork(nn.Module):
    """Utilities of one step of one sequence; works on any length. Meets `Network`."""

    any_length: ClassVar[bool] = True

    config: ConfidenceConfig = ConfidenceConfig()

    def featurize(
        self,
        logits: Logits,
        is_masked: Mask,
        left: Count,
        hidden: Hidden | None = None,
        time: Scalar | float = 0.0,
    ) -> ConfidenceFeatures:
        """The input; `left` is not used. Revealed positions are included, with the denoiser's
        probabilities there.
        """
        time = jnp.asarray(time, jnp.float32)
        if self.config.hidden:
            return ConfidenceFeatures(None, hidden, is_masked, time)
        return ConfidenceFeatures(largest(logits, self.config.top_p), None, is_masked, time)

    @nn.compact
    def utilities(self, features: ConfidenceFeatures) -> Utilities:
        """LN(X2) w + bias, as the paper describes the confidence policy."""
        config = self.config
        x = _dense(config.width, "values")(features.hidden if config.hidden else features.values)
        scale_1, shift_1, gate_1, scale_2, shift_2, gate_2 = self._modulation(features)
        x += (1 + gate_1) * self._attention(_norm("norm_1")(x) * (1 + scale_1) + shift_1)
        h = _dense(config.mlp, "up")(_norm("norm_2")(x) * (1 + scale_2) + shift_2)
        x += (1 + gate_2) * _dense(config.width, "down")(nn.gelu(h, approximate=False))
        bias = nn.initializers.constant(config.bias)
        out = nn.Dense(1, True, kernel_init=_uniform(config.width), bias_init=bias, name="utility")
        return out(_norm("final_norm")(x))[:, 0]

    __call__ = utilities

    def hidden_features(self, params: Any) -> int | None:
        """Width of the hidden states that these parameters take; None: they take none."""
        return params["values"]["linear"]["kernel"].shape[0] if self.config.hidden else None

    def _modulation(self, features: ConfidenceFeatures) -> list[Hidden]:
        """Scale, shift and gate of both sublayers, for each position. They depend only on its mask bit
        and on time, so they are computed for the two bits, not for every position.
        """
        config = self.config
        bits = nn.Embed(2, config.width, name="mask", embedding_init=nn.initializers.normal(1.0))
        time = _dense(config.width, "time_1")(sinusoids(features.time, config))
        time = _dense(config.width, "time_2")(nn.silu(time))
        condition = bits(jnp.arange(2)) + time[None, :]
        zero = nn.initializers.zeros
        both = nn.Dense(6 * config.width, kernel_init=zero, name="modulation")(condition)
        return jnp.split(both[features.is_masked.astype(jnp.int32)], 6, axis=-1)

    def _attention(self, x: Hidden) -> Hidden:
        """Every position attends to every position, rotary positions from the response's start."""
        config, length = self.config, x.shape[0]
        parts = _dense(3 * config.width, "query_key_value")(x)
        query, key, value = jnp.split(parts.reshape(length, 3 * config.heads, -1), 3, axis=1)
        mixed = jax.nn.dot_product_attention(rotate(query, 1e4), rotate(key, 1e4), value)
        return _dense(config.width, "attention_out")(mixed.reshape(length, -1))


def largest(logits: Logits, count: int) -> Float[Array, "length count"]:
    """The `count` largest probabilities of each position, falling; padded with 0 to `count`."""
    logs, vocab = jax.nn.log_softmax(logits, axis=-1), logits.shape[-1]
    if count == 1:
        return jnp.exp(jnp.max(logs, axis=-1, keepdims=True))  # far cheaper than a sort
    probs = jnp.exp(jax.lax.top_k(logs, min(count, vocab))[0])
    return jnp.pad(probs, ((0, 0), (0, count - probs.shape[1])))


def sinusoids(time: Scalar, config: ConfidenceConfig) -> Float[Array, " width"]:
    """cos and sin of time at frequencies from 1 down to 1 / time_period."""
    half = config.width // 2
    angles = time * config.time_period ** (-jnp.arange(half, dtype=jnp.float32) / half)
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)])


def _uniform(fan_in: int) -> nn.initializers.Initializer:
    """Uniform in +-1 / sqrt(fan_in), PyTorch's default for linear layers."""
    bound = fan_in**-0.5
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


class _Dense(nn.Module):
    """A linear layer with weight and bias uniform in +-1 / sqrt(fan-in)."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch out"]:
        init = _uniform(x.shape[-1])
        shared = {"dot_general": shared_dot_general, "name": "linear"}
        return nn.Dense(self.features, kernel_init=init, bias_init=init, **shared)(x)


def _dense(features: int, name: str) -> _Dense:
    return _Dense(features, name=name)


def _norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-5, name=name)
