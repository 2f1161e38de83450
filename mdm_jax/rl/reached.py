"""What a policy with a price reaches at several prices, on prompts with a verifier."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from mdm_jax import sharding
from mdm_jax.denoisers.base import Denoise
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.rl.branch_objective import BranchObjective
from mdm_jax.rl.compiled import Verifier, verify_groups
from mdm_jax.rl.rollouts import Prompts
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sweep
from mdm_jax.types import Scalar

ByPrice = Float[Array, " prices"]


class Reached(NamedTuple):
    """Means over prompts, at each price."""

    reward: ByPrice
    accuracy: ByPrice
    calls: ByPrice


@dataclass(frozen=True, eq=False)
class Measure:
    """Completes held-out prompts at every price.

    Attributes:
      keys, prompts: of the rows.
      config: of the sampler, complete.
      objective: what is rewarded.
    """

    keys: Key[Array, " prompts"]
    prompts: Prompts
    denoise: Denoise
    verifier: Verifier
    config: SamplerConfig
    objective: BranchObjective

    def __call__(self, policies: AdaptivePolicy) -> Reached:
        """Of a stack of policies that differ in their price."""
        rollout = sweep(
            self.keys,
            self.prompts.canvases,
            denoise=self.denoise,
            policies=policies,
            config=self.config,
        )
        correct, most = self._correct(rollout.canvas), rollout.revealed_at.shape[-1]
        reward = partial(self.objective.reward, most=most)
        of_prompts = jax.vmap(lambda c, n, price: reward(c, n, price), (0, 0, None))
        rewards = jax.vmap(of_prompts)(correct, rollout.nfe, policies.price)
        return Reached(*(jnp.mean(x, axis=1) for x in (rewards, correct, rollout.nfe)))

    def score(self, found: Reached, prices: ByPrice) -> Scalar:
        """What learning maximises: the mean over prices of rewards, scaled so that all of them count."""
        return jnp.mean(self.objective.scaled(found.reward, prices))

    def _correct(
        self, canvases: Int[Array, "prices prompts length"]
    ) -> Bool[Array, "prices prompts"]:
        references = self.prompts.references
        if self.verifier.pure_verifier:
            return _verified(self.verifier, canvases, references)
        groups = sharding.to_host(canvases).swapaxes(0, 1)
        return jnp.asarray(verify_groups(self.verifier, groups, references).T)


@partial(jax.jit, static_argnums=0)
def _verified(
    verifier: Verifier, canvases: Int[Array, "prices prompts length"], references: Array
) -> Bool[Array, "prices prompts"]:
    return jax.vmap(jax.vmap(verifier.verify), (0, None))(canvases, references)
