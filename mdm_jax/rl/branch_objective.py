"""What the sets that are tried at a state earn, and the loss: rewards with credit for each step.

At a state of a policy's own rollouts several sets of positions are tried, and each branch is finished by
the policy with tokens really drawn. It earns what `rl.rewards` gives to a finished sequence, with a
price of a call in place of the weight of speed. Sets of one state are compared with each other
(`orders.fidelity.credit`), so each step has credit of its own; GRPO gives every step of a rollout the
credit of all of it.

The price is an input of the policy, drawn for each prompt: one policy learns the whole frontier, for
which arXiv:2512.09106 trains one policy for each weight of speed.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.chunks import canvases_at_once, sum_of_chunks
from mdm_jax.errors import check_range
from mdm_jax.orders.fidelity.credit import Tried, set_loss
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.policies.networks.adaptive_network import AdaptiveFeatures
from mdm_jax.rl.chunks import in_chunks
from mdm_jax.rl.rewards import additive, multiplicative
from mdm_jax.types import Count, RowKey, Scalar


@dataclass(frozen=True, kw_only=True)
class BranchObjective:
    """What is rewarded, and what is compared with each other.

    Attributes:
      prices: of a call, as a share of what a correct answer earns: least and largest; drawn
        log-uniformly for each prompt.
      multiplicative: a correct answer earns less the slower it is, and a wrong one nothing at any speed,
        as in arXiv:2512.09106; False: each call costs its price, whatever comes of it.
      states: of each rollout, at which sets are compared.
      draws: sets drawn at each.
      try_start: try the set of the heuristic that the policy started at as well.
      entropy: weight of the policy's entropy at the start, in units of a return divided by
        (price + price_offset).
      anneal: share of the run over which it falls to 0.
      price_offset: returns are divided by price + price_offset, so that all prices count.
      ema_decay: of the averaged parameters.
      chunk: canvases that the denoiser is called on together.
    """

    prices: tuple[float, float] = (0.02, 0.4)
    multiplicative: bool = False
    states: int = 2
    draws: int = 6
    try_start: bool = False
    entropy: float = 0.02
    anneal: float = 0.7
    price_offset: float = 0.2
    ema_decay: float = 0.99
    chunk: int = 64

    def __post_init__(self) -> None:
        check_range("draws", self.draws, 2)  # to have a mean of the others
        for name in ("states", "chunk"):
            check_range(name, getattr(self, name), 1)
        check_range("prices[0]", self.prices[0], above=0)
        check_range("prices[1]", self.prices[1], self.prices[0])
        check_range("entropy", self.entropy, 0)
        check_range("anneal", self.anneal, above=0)
        check_range("price_offset", self.price_offset, above=0)
        check_range("ema_decay", self.ema_decay, 0, below=1)

    @property
    def tried(self) -> int:
        """Sets at each state: the drawn ones, the mode, everything, and with `try_start` one more."""
        return self.draws + 2 + self.try_start

    def reward(self, correct: Bool[Array, ""], calls: Count, price: Scalar, most: int) -> Scalar:
        """Of one finished sequence; `most` is the number of calls of the slowest possible one."""
        reward = multiplicative if self.multiplicative else additive
        return reward(correct, calls, most, price * most)

    def scaled(self, rewards: Float[Array, "..."], price: Float[Array, "..."]) -> Array:
        """Rewards, so that all prices count."""
        return rewards / (price + self.price_offset)


class Attempts(NamedTuple):
    """Sets tried at states of one rollout per prompt; leading axes [prompts, states].

    Fields of a finished branch have one axis more, [tried]: the drawn sets, then the fixed ones.
    """

    features: AdaptiveFeatures  # what the policy sees of the state
    sets: Bool[Array, "*states tried window"]
    same: Int[Array, "*states tried"]  # for each set the first one that reveals the same
    canvas: Int[Array, "*states tried length"]  # finished
    calls: Int[Array, "*states tried"]  # from the prompt to there
    price: Float[Array, "*states"]
    weight: Float[Array, "*states"]  # states of the rollout that it stands for; 0: it is none

    def rewards(
        self, correct: Bool[Array, "*states tried"], objective: BranchObjective
    ) -> Float[Array, "*states tried"]:
        """What each branch earns."""
        prices, most = self.price[..., None], self.sets.shape[-1]  # one position per call
        prices = jnp.broadcast_to(prices, correct.shape)
        flat = (correct.ravel(), self.calls.ravel(), prices.ravel())
        return jax.vmap(lambda *of: objective.reward(*of, most))(*flat).reshape(correct.shape)


class Verified(NamedTuple):
    """What a policy learns from."""

    attempts: Attempts
    rewards: Float[Array, "prompts states tried"]


def branch_loss(
    params: Any,
    key: RowKey,
    verified: Verified,
    *,
    policy: AdaptivePolicy,
    objective: BranchObjective,
    entropy: Scalar,
    devices: int = 1,
) -> tuple[Scalar, dict[str, Scalar]]:
    """A loss whose gradient is minus the estimate of that of the mean reward over states.

    Args:
      params: {"policy": parameters}.
      entropy: weight of the policy's entropy.
      devices: that the prompts are split over.

    Returns:
      The loss, only good for its gradient, and the entropy of a step in nats.
    """
    attempts = verified.attempts
    weight = attempts.weight / jnp.maximum(jnp.sum(attempts.weight), 1.0)
    returns = objective.scaled(verified.rewards, attempts.price[..., None])
    tried = Tried(attempts.features, attempts.sets, returns, attempts.price)
    at_once = canvases_at_once(attempts.sets.shape[-1], 1) * devices

    def one(params: Any, tried: Tried) -> tuple[Scalar, Scalar]:
        utilities = replace(policy, params=params).utilities(tried.features)
        return set_loss(tried, objective.draws, utilities, entropy)

    def of_chunk(params: Any, chunk: tuple) -> tuple[Scalar, Scalar]:
        losses, nats = jax.vmap(jax.vmap(one, (None, 0)), (None, 0))(params["policy"], chunk[1])
        return jnp.sum(losses * chunk[0]), jnp.sum(nats * chunk[0])

    chunks = in_chunks((weight, tried), at_once, weight.shape[1])
    loss, nats = sum_of_chunks(of_chunk, params, chunks)
    return loss, {"loss": loss, "entropy": jnp.sum(nats)}
