"""Group-relative advantages, the clipped surrogate, and the mixture of policy and experts.

Reference: Jazbec et al., arXiv:2512.09106; the objective is GRPO, arXiv:2402.03300, without KL.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from mdm_jax.types import Scalar


def group_advantages(
    rewards: Float[Array, " group"], by_deviation: bool = False
) -> Float[Array, " group"]:
    """Rewards minus the group's mean, with `by_deviation` divided by its standard deviation."""
    centred = rewards - jnp.mean(rewards)
    return centred / (jnp.std(rewards) + 1e-4) if by_deviation else centred


def mixture_log_prob(log_prob: Scalar, group: int, experts: int) -> Scalar:
    """log(G / (G + E) * pi + 1 / (G + E)): an expert's action under the mixture of policy and experts
    that a group is drawn from, nats.

    Bounded below by -log(G + E), however improbable the action is under the policy.

    Args:
      log_prob: log pi of the action, nats.
      group: rollouts of the policy, G.
      experts: rollouts of experts, E, each a point mass.
    """
    total = group + experts
    return jnp.logaddexp(log_prob + math.log(group / total), -math.log(total))


def clipped(log_ratio: Float[Array, "..."], advantage: Scalar, clip: float) -> Float[Array, "..."]:
    """min(rho A, clip(rho, 1 - clip, 1 + clip) A), rho = exp(log_ratio). Reference: arXiv:1707.06347."""
    ratio = jnp.exp(jnp.clip(log_ratio, -20.0, 20.0))  # without overflow: inf * 0 is NaN
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)
