"""Learned policies: a network maps the denoiser's outputs of one step to a utility per position."""

from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdm_jax.errors import MdmError, check_range
from mdm_jax.policies.action_distributions import ActionDistribution, Independent, Utilities
from mdm_jax.policies.base import RevealOnly, confidence, or_best, top
from mdm_jax.policies.heuristics import steps_per_block
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Count, Logits, Mask, Observation, RowKey, Scalar

Fallback = Literal["best", "spend"]
# folded into a key to break ties: beyond all positions, so that ties never change a draw
_TIES = 2**31


@runtime_checkable
class Network(Protocol):
    """A Flax module that computes features of one step, and utilities from the features.

    `config.hidden` says whether it uses the denoiser's hidden states, `any_length` whether it can be
    used on responses of other lengths than it was made for.
    """

    any_length: ClassVar[bool]
    config: Any

    def featurize(
        self,
        logits: Logits,
        is_masked: Mask,
        left: Count,
        hidden: Float[Array, "length width"] | None = None,
        time: Scalar | float = 0.0,
    ) -> Any:
        """The network's input: a NamedTuple without logits, small but for its field `hidden`, the
        denoiser's hidden states where they are used.

        Args:
          left: denoiser calls that may still be made, this one included.
          time: calls made so far / length.
        """
        ...

    def utilities(self, features: Any) -> Utilities:
        """One utility per position; called through `apply(variables, features, method=...)`."""
        ...

    def hidden_features(self, params: Any) -> int | None:
        """Width of the hidden states that these parameters take; None: they take none."""
        ...

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any: ...


@pytree_dataclass
class LearnedPolicy(RevealOnly):
    """A network with its parameters: meets `Policy`. Knobs and parameters are leaves.

    Attributes:
      steps: denoiser calls in all; with blocks, steps // blocks in each. The last one reveals all.
      policy_temperature: utilities are divided by it; 0 takes the most probable set.
      scale: probabilities become min(1, scale * probability).
      family: the distribution over sets of positions that the utilities parametrise.
      fallback: "best": an empty draw reveals the best position; "spend": it reveals nothing.
      candidate_top_k: choose among this many eligible positions, the most confident; None: all.

    Raises:
      MdmError: a knob out of range.
    """

    wants_window: ClassVar[bool] = True

    network: Network = static(repr=False)
    params: Any
    steps: int
    policy_temperature: float = 0.0
    scale: float = 1.0
    family: ActionDistribution = static(Independent(), repr=False)
    fallback: Fallback = static("best")
    candidate_top_k: int | None = static(None, repr=False)

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)
        check_range("policy_temperature", self.policy_temperature, 0)
        check_range("scale", self.scale, 0)
        if self.fallback not in ("best", "spend"):
            raise MdmError(f"fallback must be 'best' or 'spend', got {self.fallback!r}")
        check_range("candidate_top_k", self.candidate_top_k, 1)

    @property
    def wants_hidden(self) -> bool:
        """Whether the network uses the denoiser's hidden states."""
        return self.network.config.hidden

    def left(self, observation: Observation) -> Count:
        """Denoiser calls that the current block may still take, this one included."""
        return steps_per_block(self.steps, observation) - observation.block_step

    def candidates(self, key: RowKey, observation: Observation) -> Mask:
        """The eligible positions that the policy chooses from; `key` breaks ties of confidence."""
        eligible = observation.eligible
        if self.candidate_top_k is None:
            return eligible
        k_ties = jax.random.fold_in(key, _TIES)
        return top(k_ties, confidence(observation.logits), eligible, self.candidate_top_k)

    def featurize(self, observation: Observation) -> Any:
        """The network's input at one step."""
        time = observation.step / observation.is_masked.shape[0]
        return self.network.featurize(
            observation.logits,
            observation.is_masked,
            self.left(observation),
            observation.hidden,
            time,
        )

    def utilities(self, features: Any) -> Utilities:
        """The network's output, before any knob is applied."""
        return self.network.apply({"params": self.params}, features, method="utilities")

    def unmask(self, key: RowKey, observation: Observation) -> Mask:
        k_mode, k_best = jax.random.split(jax.random.fold_in(key, _TIES + 1))
        eligible = self.candidates(key, observation)
        utilities = self.utilities(self.featurize(observation))
        scaled = self.family.scaled(utilities, jnp.asarray(self.scale, jnp.float32))
        temperature = jnp.asarray(self.policy_temperature, jnp.float32)
        drawn = self.family.draw(key, scaled, eligible, jnp.maximum(temperature, 1e-6)) > 0
        chosen = jnp.where(temperature > 0, drawn, self.family.mode(k_mode, scaled, eligible))
        if self.fallback == "best":
            chosen = or_best(k_best, chosen, utilities, eligible)
        return jnp.where(self.left(observation) <= 1, observation.eligible, chosen)
