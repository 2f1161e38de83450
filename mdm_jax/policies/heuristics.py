"""Heuristic baselines that only reveal, each with its rule and source.

Confidence, margin and entropy are those of `Observation.logits`: the denoiser's distribution before
temperature and top-p, unless the sampler's `policy_sees_draw` is set. At a temperature above 0 LLaDA's
and Fast-dLLM's code takes the probability of the drawn token instead of the largest. Ties are broken at
random by the row's key.
"""

import abc

import jax
import jax.numpy as jnp

from mdm_jax.errors import check_range
from mdm_jax.policies.base import (
    Clock,
    RevealOnly,
    Scores,
    confidence,
    entropy,
    margin,
    or_best,
    rank,
    top,
)
from mdm_jax.policies.count_schedules import CountRule, LinearCounts
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Count, Mask, Observation, RowKey


class Scheduled(RevealOnly):
    """Base of policies that reveal the positions of highest score, as many as a schedule says.

    Each block gets steps // blocks of the `steps`, at least one.
    """

    steps: int
    schedule: CountRule

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)

    @abc.abstractmethod
    def score(self, key: RowKey, observation: Observation) -> Scores:
        """Priority of each position; the highest are revealed first."""

    def unmask(self, key: RowKey, observation: Observation) -> Mask:
        k_score, k_ties = jax.random.split(key)
        count = scheduled_count(self.schedule, self.steps, observation)
        return top(k_ties, self.score(k_score, observation), observation.eligible, count)


def scheduled_count(schedule: CountRule, steps: int | Count, observation: Observation) -> Count:
    """How many positions of the current block to reveal now, with `steps` steps for all blocks."""
    return schedule.count(
        jnp.sum(observation.eligible),
        observation.block_masks,
        observation.block_step,
        steps_per_block(steps, observation),
    )


def steps_per_block(steps: int | Count, observation: Clock | Observation) -> Count:
    """steps // blocks, at least one."""
    return jnp.maximum(jnp.asarray(steps) // jnp.maximum(observation.num_blocks, 1), 1)


@pytree_dataclass
class Random(Scheduled):
    """A uniformly random order, a scheduled number of positions at each step."""

    steps: int = 8  # denoiser calls in all
    schedule: CountRule = static(LinearCounts())  # how many positions each reveals

    def score(self, key: RowKey, observation: Observation) -> Scores:
        return jax.random.uniform(key, observation.eligible.shape, jnp.float32)


@pytree_dataclass
class TopConfidence(Scheduled):
    """Highest top-1 probability first. MaskGIT, LLaDA ("low-confidence remasking")."""

    steps: int = 8  # denoiser calls in all
    schedule: CountRule = static(LinearCounts())  # how many positions each reveals

    def score(self, key: RowKey, observation: Observation) -> Scores:
        return confidence(observation.logits)


@pytree_dataclass
class TopMargin(Scheduled):
    """Largest gap between the two most probable tokens first. Kim et al., arXiv:2502.06768."""

    steps: int = 8  # denoiser calls in all
    schedule: CountRule = static(LinearCounts())  # how many positions each reveals

    def score(self, key: RowKey, observation: Observation) -> Scores:
        return margin(observation.logits)


@pytree_dataclass
class LowEntropy(Scheduled):
    """Lowest entropy first. Dream (`alg=entropy`)."""

    steps: int = 8  # denoiser calls in all
    schedule: CountRule = static(LinearCounts())  # how many positions each reveals

    def score(self, key: RowKey, observation: Observation) -> Scores:
        return -entropy(observation.logits)


@pytree_dataclass
class LeftToRight(Scheduled):
    """In reading order, a scheduled number of positions at each step."""

    steps: int = 8  # denoiser calls in all
    schedule: CountRule = static(LinearCounts())  # how many positions each reveals

    def score(self, key: RowKey, observation: Observation) -> Scores:
        return -jnp.arange(observation.eligible.shape[0], dtype=jnp.float32)


@pytree_dataclass
class Ancestral(RevealOnly):
    """Ancestral sampling of the reverse diffusion in `steps` steps: every masked position is revealed
    independently with the probability that the schedule says, 1 / (steps left) if linear. An empty
    draw reveals one position at random.

    Reference: MDLM, arXiv:2406.07524. Dream's `alg=origin`.
    """

    steps: int = 8  # denoiser calls in all
    schedule: CountRule = static(LinearCounts())  # how many positions each reveals

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)

    def unmask(self, key: RowKey, observation: Observation) -> Mask:
        steps = steps_per_block(self.steps, observation)
        share = self.schedule.share(observation.block_step, steps)
        k_draw, k_ties = jax.random.split(key)
        noise = jax.random.uniform(k_draw, observation.eligible.shape, jnp.float32)
        chosen = observation.eligible & (noise < share)
        return or_best(k_ties, chosen, -noise, observation.eligible)


@pytree_dataclass
class ConfidenceThreshold(RevealOnly):
    """Every position with confidence >= threshold, and always the best one.

    threshold > 1 reveals one at a time, threshold <= 0 the whole block.
    Reference: Fast-dLLM, arXiv:2505.22618.
    """

    threshold: float = 0.9  # least confidence of what is revealed together

    def __post_init__(self) -> None:
        check_range("threshold", self.threshold)

    def unmask(self, key: RowKey, observation: Observation) -> Mask:
        scores = confidence(observation.logits)
        chosen = observation.eligible & (scores >= self.threshold)
        return or_best(key, chosen, scores, observation.eligible)


@pytree_dataclass
class Factor(RevealOnly):
    """The n most confident, for the largest n with (n + 1)(1 - c_(n)) < factor; at least one.

    factor 0 reveals one at a time. Reference: Fast-dLLM, arXiv:2505.22618, Theorem 1, whose released
    loop also reveals the last position of a block where that one alone fails.
    """

    factor: float = 1.0  # larger reveals more

    def __post_init__(self) -> None:
        check_range("factor", self.factor, 0)

    def unmask(self, key: RowKey, observation: Observation) -> Mask:
        scores = confidence(observation.logits)
        ranks = rank(key, scores, observation.eligible)
        passes = (ranks + 2) * (1.0 - scores) < self.factor
        return observation.eligible & (passes | (ranks == 0))


@pytree_dataclass
class EntropyBound(RevealOnly):
    """The most positions of lowest entropy whose sum of entropies without the largest is <= gamma; at
    least one.

    gamma < 0 reveals one at a time, a gamma above the sum of all entropies the whole block.
    Reference: EB-Sampler, arXiv:2505.24857.
    """

    gamma: float = 0.1  # nats; larger reveals more

    def __post_init__(self) -> None:
        check_range("gamma", self.gamma)

    def unmask(self, key: RowKey, observation: Observation) -> Mask:
        entropies = entropy(observation.logits)
        ranks = rank(key, -entropies, observation.eligible)
        counted = jnp.where(observation.eligible, entropies, 0.0)
        before = jnp.sum(jnp.where(ranks[None, :] < ranks[:, None], counted[None, :], 0.0), axis=1)
        return observation.eligible & ((before <= self.gamma) | (ranks == 0))
