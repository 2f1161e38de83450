"""The learned policy with one knob, the price of a denoiser call."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from mdm_jax.errors import check_range
from mdm_jax.policies.action_distributions import Utilities
from mdm_jax.policies.base import RevealOnly, or_best
from mdm_jax.policies.networks.adaptive_network import (
    AdaptiveFeatures,
    AdaptiveNetwork,
    blank_features,
    features_of,
)
from mdm_jax.policies.pair_costs import SetScores, draw_set, greedy_set
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Mask, Observation, RowKey, Scalar

TIES = 2**31  # folded into a key to break ties, so that ties never change a draw


@pytree_dataclass
class AdaptivePolicy(RevealOnly):
    """Reveals every position of positive utility (less what earlier ones cost it, where the network has
    pair costs), and always the best one.

    Parameters and knobs are leaves: stacked prices are one compiled `sweep`.

    Attributes:
      price: what a denoiser call costs, in nats. The knob that trades calls for
        accuracy.
      steps: denoiser calls that the policy may count on, where that is fewer than the sampler's budget;
        the last one reveals all. 0: no limit, price alone decides.
      policy_temperature: utilities are divided by it and positions drawn; 0 draws nothing.
    """

    wants_window: ClassVar[bool] = True

    network: AdaptiveNetwork = static(repr=False)
    params: Any
    price: float | Scalar = 0.05
    steps: int = 0
    policy_temperature: float | Scalar = 0.0

    def __post_init__(self) -> None:
        check_range("price", self.price, 0)
        check_range("steps", self.steps, 0)
        check_range("policy_temperature", self.policy_temperature, 0)

    def calls_left(self, observation: Observation) -> Scalar:
        """Denoiser calls that may still be made, this one included; inf where `steps` is 0."""
        steps = jnp.asarray(self.steps)
        left = jnp.maximum(steps - observation.step, 1).astype(jnp.float32)
        return jnp.where(steps > 0, left, jnp.inf)

    def featurize(self, observation: Observation) -> AdaptiveFeatures:
        """What the network sees of one step."""
        price = jnp.asarray(self.price, jnp.float32)
        return features_of(observation, price, self.calls_left(observation))

    def scores(self, features: AdaptiveFeatures) -> SetScores:
        """The network's output."""
        return self.network.apply({"params": self.params}, features)

    def utilities(self, features: AdaptiveFeatures) -> Utilities:
        """The utility of each position, whatever reveals cost one another."""
        return self.scores(features).utilities

    def unmask(self, key: RowKey, observation: Observation) -> Mask:
        features = self.featurize(observation)
        scores, eligible = self.scores(features), observation.eligible
        temperature = jnp.asarray(self.policy_temperature, jnp.float32)
        k_draw, _, k_best = jax.random.split(key, 3)
        drawn = draw_set(k_draw, heated(scores, jnp.maximum(temperature, 1e-6)), eligible)
        chosen = jnp.where(temperature > 0, drawn, greedy_set(scores, eligible))
        chosen = or_best(k_best, chosen, scores.utilities, eligible)
        return jnp.where(features.calls_left <= 1, eligible, chosen)


def heated(scores: SetScores, temperature: Scalar) -> SetScores:
    """Scores whose log-odds are divided by a temperature."""
    return scores._replace(utilities=scores.utilities / temperature, left=scores.left / temperature)


def or_best_utility(key: RowKey, chosen: Mask, utilities: Utilities, eligible: Mask) -> Mask:
    """`or_best` while learning: `key` may be used for other draws as well."""
    return or_best(jax.random.fold_in(key, TIES), chosen, utilities, eligible)


def init_adaptive(network: AdaptiveNetwork, key: RowKey, length: int = 16) -> AdaptivePolicy:
    """The policy before training; `length` of the canvas it is shaped with."""
    return AdaptivePolicy(network, jax.jit(network.init)(key, blank_features(length))["params"])
