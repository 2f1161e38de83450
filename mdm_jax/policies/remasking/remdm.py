"""ReMDM: ancestral sampling in which a revealed token is re-masked with a small probability.

From time t to the earlier time s, with alpha the share that is unmasked, a revealed token is
re-masked with probability sigma and a masked position is revealed with probability
(alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t), so that the expected share unmasked is alpha_s for any
sigma. The samplers differ in sigma. Tokens are drawn with the sampler's temperature and top_p (the
paper: top_p 0.9, without the token that crosses it). A sequence ends once nothing in it is masked.

Reference: arXiv:2503.00307.
"""

import abc

import jax
import jax.numpy as jnp

from mdm_jax.errors import check_range
from mdm_jax.policies.base import Clock, PolicyState, Scores, log_prob
from mdm_jax.policies.heuristics import steps_per_block
from mdm_jax.policies.remasking.block import current_block
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Count, Decision, Mask, Observation, RowKey, Scalar


def reveal_rate(alpha_t: Scalar, alpha_s: Scalar, sigma: Scalar | float) -> Scalar:
    """Probability that a masked position is revealed."""
    return (alpha_s - (1.0 - sigma) * alpha_t) / (1.0 - alpha_t)


def sigma_max(alpha_t: Scalar, alpha_s: Scalar) -> Scalar:
    """Largest probability of re-masking that leaves room for the schedule; 1 at t = 1."""
    return jnp.minimum(1.0, (1.0 - alpha_s) / jnp.maximum(alpha_t, 1e-9))


def times(steps: int | Count, clock: Clock | Observation) -> tuple[Scalar, Scalar]:
    """The times t and s of this step: an even grid from 1 to 0 for each block."""
    count = steps_per_block(steps, clock)
    left = jnp.maximum(count - clock.block_step, 1)
    return left / count, (left - 1) / count


def transition(
    key: RowKey, reveal: Scalar, remask: Scores, s: Scalar, block: Mask, observation: Observation
) -> Decision:
    """Masked positions revealed and revealed ones re-masked, each independently; at s = 0 all masked
    ones are revealed and none is re-masked.
    """
    noise = jax.random.uniform(key, block.shape, jnp.float32)
    last = s <= 0
    return Decision(
        unmask=observation.eligible & (last | (noise < reveal)),
        remask=block & ~observation.is_masked & ~last & (noise < remask),
    )


class Remdm(abc.ABC):
    """Base of ReMDM samplers whose sigma is the same for every revealed token."""

    steps: int
    eta: float

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)
        check_range("eta", self.eta, 0, 1)

    @abc.abstractmethod
    def rates(self, t: Scalar, s: Scalar) -> tuple[Scalar, Scalar]:
        """Probabilities to reveal a masked position, and to re-mask a revealed one."""

    def init(self, length: int) -> PolicyState:
        return jnp.zeros(length, bool)  # the current block

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        block = current_block(state, observation)
        t, s = times(self.steps, observation)
        reveal, remask = self.rates(t, s)
        remask = jnp.broadcast_to(remask, block.shape)
        return transition(key, reveal, remask, s, block, observation), block


@pytree_dataclass
class RemdmCap(Remdm):
    """sigma = min(eta, sigma_max)."""

    steps: int = 16  # denoiser calls in all
    eta: float = 0.008  # probability of re-masking a token at each step

    def rates(self, t: Scalar, s: Scalar) -> tuple[Scalar, Scalar]:
        sigma = jnp.minimum(self.eta, sigma_max(1.0 - t, 1.0 - s))
        return reveal_rate(1.0 - t, 1.0 - s, sigma), sigma


@pytree_dataclass
class RemdmRescale(Remdm):
    """sigma = eta * sigma_max."""

    steps: int = 16  # denoiser calls in all
    eta: float = 0.015  # share of the largest probability of re-masking

    def rates(self, t: Scalar, s: Scalar) -> tuple[Scalar, Scalar]:
        sigma = self.eta * sigma_max(1.0 - t, 1.0 - s)
        return reveal_rate(1.0 - t, 1.0 - s, sigma), sigma


@pytree_dataclass
class RemdmLoop(Remdm):
    """Three phases: no re-masking until time t_on, when the share alpha_on is unmasked; then sigma =
    eta at that constant share until t_off; then no re-masking to the end.
    """

    steps: int = 16  # denoiser calls in all
    eta: float = 0.02  # probability of re-masking a token at each step between t_on and t_off
    t_on: float = 0.55  # times run from 1 to 0
    t_off: float = 0.05
    alpha_on: float = 0.9  # share that is unmasked between t_on and t_off

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("t_on", "t_off", "alpha_on"):
            check_range(name, getattr(self, name), 0, 1)

    def rates(self, t: Scalar, s: Scalar) -> tuple[Scalar, Scalar]:
        on = (t <= self.t_on) & (t > self.t_off)
        sigma = jnp.where(on, self.eta, 0.0)
        alpha_t, alpha_s = self._alpha(t, t), self._alpha(s, t)
        return reveal_rate(alpha_t, alpha_s, sigma), sigma

    def _alpha(self, time: Scalar, t: Scalar) -> Scalar:
        """Share unmasked at `time`, by the formula of the phase that contains t."""
        rising = self.alpha_on * (1.0 - time) / (1.0 - self.t_on)
        ending = self.alpha_on + (1.0 - self.alpha_on) * (1.0 - time / self.t_off)
        return jnp.where(t > self.t_on, rising, jnp.where(t > self.t_off, self.alpha_on, ending))


@pytree_dataclass
class RemdmConf:
    """sigma = sigma_max * softmax(-confidence) over the revealed tokens, with the confidence that each
    was revealed with.
    """

    steps: int = 16  # denoiser calls in all

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)

    def rates(self, t: Scalar, s: Scalar, scores: Scores, revealed: Mask) -> tuple[Scalar, Scores]:
        """Probabilities to reveal a masked position, and to re-mask each revealed one."""
        weights = jnp.where(revealed, jnp.exp(-scores), 0.0)
        share = weights / jnp.maximum(jnp.sum(weights), 1e-9)
        return reveal_rate(1.0 - t, 1.0 - s, 0.0), share * sigma_max(1.0 - t, 1.0 - s)

    def init(self, length: int) -> PolicyState:
        """The current block, and the confidence that each position was revealed with."""
        return jnp.zeros(length, bool), jnp.zeros(length, jnp.float32)

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        block, scores = current_block(state[0], observation), state[1]
        t, s = times(self.steps, observation)
        reveal, remask = self.rates(t, s, scores, block & ~observation.is_masked)
        decision = transition(key, reveal, remask, s, block, observation)
        now = jnp.exp(log_prob(observation.logits, observation.proposal))
        return decision, (block, jnp.where(decision.unmask, now, scores))
