"""Policies that are networks: from what the denoiser says now to a utility for each position."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax.denoisers.transformer import Block, TransformerConfig
from mdm_jax.policies.base import RevealOnly, check_knob, confidence, entropy, margin
from mdm_jax.policies.heuristic import steps_per_block
from mdm_jax.policies.likelihood import Family, Independent, Utilities
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Count, Logits, Mask, Observation, RowKey, Scalar

Fallback = Literal["best", "spend"]


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Shape of an unmasking policy, and what it sees of the denoiser.

    Attributes:
      width: of the residual stream.
      depth: transformer blocks.
      heads: of the attention.
      confidence: see the top-1 probability.
      margin: see the gap between the two most probable tokens.
      entropy: see the entropy.
      hidden: see the denoiser's last hidden states, where it gives them.
    """

    width: int = 64
    depth: int = 1
    heads: int = 4
    confidence: bool = True
    margin: bool = True
    entropy: bool = True
    hidden: bool = False


class Sight(NamedTuple):
    """What a `PolicyNetwork` sees of one step: no logits, so it can be kept."""

    features: Float[Array, "length features"]
    left: Count
    hidden: Float[Array, "length width"] | None


class PolicyNetwork(nn.Module):
    """Utilities of one step of one sequence.

    `max_length` positions and up to `max_steps` steps left are told apart by learned embeddings;
    more steps left look like `max_steps`. `table` is the part that knows nothing else: it starts as
    the Iid sampler, which reveals each position with probability 1 / steps left.
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
        return self.utilities(self.see(logits, is_masked, left, hidden))

    def see(
        self,
        logits: Logits,
        is_masked: Mask,
        left: Count,
        hidden: Float[Array, "length width"] | None = None,
        time: Scalar | float = 0.0,
    ) -> Sight:
        """Its input, of which `utilities` is a function; `time` is not looked at."""
        return Sight(
            self._features(logits, is_masked), left, hidden if self.config.hidden else None
        )

    @nn.compact
    def utilities(self, sight: Sight) -> Utilities:
        """Utilities from what is seen."""
        config, left, length = self.config, sight.left, len(sight.features)
        shape = TransformerConfig(width=config.width, depth=config.depth, heads=config.heads)
        init = nn.initializers.normal(0.3)
        x = nn.Dense(config.width, name="features")(sight.features)
        if config.hidden:
            x += nn.Dense(config.width, name="hidden")(nn.RMSNorm(name="hidden_norm")(sight.hidden))
        x += self.param("positions", init, (self.max_length, config.width))[:length]
        steps = nn.Embed(self.max_steps + 1, config.width, embedding_init=init, name="steps")
        x += steps(jnp.clip(left, 0, self.max_steps))
        for layer in range(config.depth):
            x, _ = Block(shape, name=f"block_{layer}")(x, jnp.ones((length,), bool))
        x = nn.RMSNorm(name="final_norm")(x)
        utilities = nn.Dense(1, kernel_init=nn.initializers.zeros, name="utility")(x)[:, 0]
        table = self.param("table", _iid_table, (self.max_steps + 1, self.max_length))
        return utilities + table[jnp.clip(left, 0, self.max_steps), :length]

    def _features(self, logits: Logits, is_masked: Mask) -> Float[Array, "length features"]:
        """What the denoiser says where something is masked, whether it is, and how much is."""
        config = self.config
        wanted = (
            (config.confidence, confidence),
            (config.margin, margin),
            (config.entropy, entropy),
        )
        seen = [jnp.where(is_masked, read(logits), 0.0) for use, read in wanted if use]
        share = jnp.mean(is_masked.astype(jnp.float32))
        return jnp.stack([*seen, is_masked, jnp.full(is_masked.shape, share)], axis=-1)

    @staticmethod
    def hidden_features(params: Any) -> int | None:
        """Of the denoiser's hidden states, how many these parameters look at; None: at none."""
        return params["hidden"]["kernel"].shape[0] if "hidden" in params else None


def _iid_table(key: RowKey, shape: tuple[int, int]) -> Float[Array, "steps length"]:
    """logit(1 / left) at every position."""
    left = jnp.arange(shape[0], dtype=jnp.float32)[:, None]
    return jnp.broadcast_to(-jnp.log(jnp.maximum(left - 1.0, 0.5)), shape)


def start_table(params: Any, order: Int[Array, " length"], certainty: float) -> Any:
    """Network parameters that begin at a static order: +-certainty, in nats, for now or later."""
    left = jnp.arange(params["table"].shape[0])[:, None]
    now = order <= jnp.max(left) - left
    return params | {"table": jnp.where(now, certainty, -certainty)}


@runtime_checkable
class Network(Protocol):
    """A Flax module that decides: what it sees of a step, and utilities from that.

    `config.hidden` says whether it looks at the denoiser's hidden states, `any_length` whether it
    decides on responses of other lengths than it was made for.
    """

    any_length: ClassVar[bool]
    config: Any

    def see(
        self,
        logits: Logits,
        is_masked: Mask,
        left: Count,
        hidden: Float[Array, "length width"] | None = None,
        time: Scalar | float = 0.0,
    ) -> Any:
        """A small pytree without logits.

        Args:
          left: denoiser calls that may still be made, this one included.
          time: calls made so far / length.
        """
        ...

    def utilities(self, sight: Any) -> Utilities: ...

    def hidden_features(self, params: Any) -> int | None: ...

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any: ...


@pytree_dataclass
class LearnedPolicy(RevealOnly):
    """A network with its parameters: meets `Policy`. Knobs and parameters are leaves.

    Attributes:
      steps: denoiser calls in all; with blocks, shared out evenly. The last one reveals all.
      policy_temperature: utilities are divided by it; 0 takes the most probable set.
      scale: probabilities become min(1, scale * probability).
      fallback: what an empty draw does: reveal the best position, or spend the step.
      among: only that many eligible positions, the most confident ones, are candidates; None: all.
    """

    wants_window: ClassVar[bool] = True

    network: Network = static(repr=False)
    params: Any
    steps: int
    policy_temperature: float = 0.0
    scale: float = 1.0
    family: Family = static(Independent(), repr=False)
    fallback: Fallback = static("best")
    among: int | None = static(None, repr=False)

    def __post_init__(self) -> None:
        check_knob("steps", self.steps, 1)
        check_knob("policy_temperature", self.policy_temperature, 0)
        check_knob("scale", self.scale, 0)
        if self.fallback not in ("best", "spend"):
            raise ValueError(f"fallback must be 'best' or 'spend', got {self.fallback!r}")
        check_knob("among", self.among, 1)

    @property
    def wants_hidden(self) -> bool:
        """Whether it looks at the denoiser's hidden states."""
        return self.network.config.hidden

    def left(self, observation: Observation) -> Count:
        """Denoiser calls that the current block may still have, this one included."""
        return steps_per_block(self.steps, observation) - observation.block_step

    def candidates(self, observation: Observation) -> Mask:
        """The eligible positions that the policy chooses from."""
        eligible = observation.eligible
        if self.among is None:
            return eligible
        return eligible & (_places_by(confidence(observation.logits), eligible) < self.among)

    def see(self, observation: Observation) -> Any:
        """What the network sees of one step."""
        time = observation.step / observation.is_masked.shape[0]
        return self.network.see(
            observation.logits,
            observation.is_masked,
            self.left(observation),
            observation.hidden,
            time,
        )

    def utilities(self, sight: Any) -> Utilities:
        """The network's output, before any knob."""
        return self.network.apply({"params": self.params}, sight, method="utilities")

    def unmask(self, key: RowKey, observation: Observation) -> Mask:
        eligible, utilities = self.candidates(observation), self.utilities(self.see(observation))
        tilted = self.family.scaled(utilities, jnp.asarray(self.scale, jnp.float32))
        heat = jnp.asarray(self.policy_temperature, jnp.float32)
        drawn = self.family.draw(key, tilted / jnp.maximum(heat, 1e-6), eligible) > 0
        chosen = jnp.where(heat > 0, drawn, self.family.mode(tilted, eligible))
        if self.fallback == "best":
            best = jnp.argmax(jnp.where(eligible, utilities, -jnp.inf))
            alone = eligible & (jnp.arange(len(eligible)) == best)
            chosen = jnp.where(jnp.any(chosen), chosen, alone)
        return jnp.where(self.left(observation) <= 1, observation.eligible, chosen)


def _places_by(scores: Utilities, eligible: Mask) -> Int[Array, " length"]:
    """Rank by falling score among the eligible, ties by position."""
    return jnp.argsort(jnp.argsort(jnp.where(eligible, -scores, jnp.inf)))
