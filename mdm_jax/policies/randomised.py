"""Scheduled policies that draw positions at random instead of taking those of highest score."""

import jax
import jax.numpy as jnp

from mdm_jax.errors import check_range
from mdm_jax.policies.base import RevealOnly, Scores, confidence, rank, top
from mdm_jax.policies.count_schedules import CountRule, LinearCounts
from mdm_jax.policies.heuristics import Scheduled, scheduled_count
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Mask, Observation, RowKey


@pytree_dataclass
class Perturbed(RevealOnly):
    """Positions drawn without replacement with softmax(scores of `base` / policy_temperature).

    The best by score + policy_temperature * Gumbel noise; at 0 what `base` reveals.
    Reference: Dream's `alg_temp`.
    """

    base: Scheduled
    policy_temperature: float = 0.1

    def __post_init__(self) -> None:
        check_range("policy_temperature", self.policy_temperature, 0)

    def unmask(self, key: RowKey, observation: Observation) -> Mask:
        k_noise, k_base = jax.random.split(key)
        k_score, k_ties = jax.random.split(k_base)
        noise = jax.random.gumbel(k_noise, observation.eligible.shape, jnp.float32, mode="high")
        scores = self.base.score(k_score, observation) + self.policy_temperature * noise
        count = scheduled_count(self.base.schedule, self.base.steps, observation)
        return top(k_ties, scores, observation.eligible, count)


@pytree_dataclass
class TopKRandom(Scheduled):
    """At random among the `candidates` most confident positions.

    Reference: UPO's reference policy `bim`, arXiv:2510.05725.
    """

    steps: int = 8  # denoiser calls in all
    schedule: CountRule = static(LinearCounts())  # how many positions each reveals
    candidates: int = 5  # how many of the most confident positions

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)
        check_range("candidates", self.candidates, 1)

    def score(self, key: RowKey, observation: Observation) -> Scores:
        k_draw, k_ties = jax.random.split(key)
        ranks = rank(k_ties, confidence(observation.logits), observation.eligible)
        noise = jax.random.uniform(k_draw, ranks.shape, jnp.float32)
        return jnp.where(ranks < self.candidates, noise, -ranks.astype(jnp.float32))


@pytree_dataclass
class SoftmaxConfidence(Scheduled):
    """A position with probability proportional to sum_v exp(p(v) / policy_temperature), without
    replacement if a step reveals several.

    Reference: UPO's reference policy `softmax_confidence`, arXiv:2510.05725.
    """

    steps: int = 8  # denoiser calls in all
    schedule: CountRule = static(LinearCounts())  # how many positions each reveals
    policy_temperature: float = 0.05

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)
        check_range("policy_temperature", self.policy_temperature, 1e-6)

    def score(self, key: RowKey, observation: Observation) -> Scores:
        probs = jax.nn.softmax(observation.logits, axis=-1)
        odds = jax.nn.logsumexp(probs / self.policy_temperature, axis=-1)
        return odds + jax.random.gumbel(key, odds.shape, jnp.float32, mode="high")
