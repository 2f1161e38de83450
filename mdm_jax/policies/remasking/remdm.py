"""ReMDM: ancestral sampling in which a revealed token is re-masked with a small probability.

From time t to the earlier time s, with alpha the share that is unmasked, a revealed token is
re-masked with probability sigma and a masked position is revealed with
(alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t), so that the share unmasked is alpha_s whatever sigma.
Which sigma is what the samplers differ in; the tokens are the sampler's own draws (theirs: top_p 0.9,
without the token that crosses it). A sequence is done as soon as nothing in it is masked.

Reference: arXiv:2503.00307.
"""

import abc

import jax
import jax.numpy as jnp

from mdm_jax.policies.base import PolicyState, Scores, check_knob, log_prob
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


def times(steps: int | Count, observation: Observation) -> tuple[Scalar, Scalar]:
    """The times t and s of this step: an even grid from 1 to 0 for each block."""
    width = 1.0 / steps_per_block(steps, observation)
    t = 1.0 - observation.block_step * width
    return jnp.maximum(t, width), jnp.maximum(t - width, 0.0)


def transition(
    key: RowKey, reveal: Scalar, remask: Scores, s: Scalar, block: Mask, observation: Observation
) -> Decision:
    """Every position on its own: masked ones revealed, revealed ones re-masked; all shown at s = 0."""
    noise = jax.random.uniform(key, block.shape)
    last = s <= 0
    return Decision(
        unmask=observation.eligible & (last | (noise < reveal)),
        remask=block & ~observation.is_masked & ~last & (noise < remask),
    )


class Remdm(abc.ABC):
    """Shape of a ReMDM sampler whose sigma is the same for every revealed token."""

    steps: int

    def __post_init__(self) -> None:
        check_knob("steps", self.steps, 1)

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
    """sigma = eta, or sigma_max where that is less."""

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
    """No re-masking until the time t_on, by when the share alpha_on is unmasked; it stays there, with
    sigma = eta, until t_off; then without re-masking to the end.
    """

    steps: int = 16  # denoiser calls in all
    eta: float = 0.02  # probability of re-masking a token at each step between
    t_on: float = 0.55  # these two
    t_off: float = 0.05  # times,
    alpha_on: float = 0.9  # while this share is unmasked

    def rates(self, t: Scalar, s: Scalar) -> tuple[Scalar, Scalar]:
        on = (t <= self.t_on) & (t > self.t_off)
        sigma = jnp.where(on, self.eta, 0.0)
        alpha_t, alpha_s = self._alpha(t, t), self._alpha(s, t)
        return reveal_rate(alpha_t, alpha_s, sigma), sigma

    def _alpha(self, time: Scalar, t: Scalar) -> Scalar:
        """Share unmasked at `time`, as the phase that t lies in has it."""
        rising = self.alpha_on * (1.0 - time) / (1.0 - self.t_on)
        ending = self.alpha_on + (1.0 - self.alpha_on) * (1.0 - time / self.t_off)
        return jnp.where(t > self.t_on, rising, jnp.where(t > self.t_off, self.alpha_on, ending))


@pytree_dataclass
class RemdmConf:
    """sigma_max shared out among the revealed tokens by softmax(-confidence), each with the confidence
    it was revealed with.
    """

    steps: int = 16  # denoiser calls in all

    def __post_init__(self) -> None:
        check_knob("steps", self.steps, 1)

    def rates(self, t: Scalar, s: Scalar, shown: Scores, revealed: Mask) -> tuple[Scalar, Scores]:
        """Probabilities to reveal a masked position, and to re-mask each revealed one."""
        weights = jnp.where(revealed, jnp.exp(-shown), 0.0)
        share = weights / jnp.maximum(jnp.sum(weights), 1e-9)
        return reveal_rate(1.0 - t, 1.0 - s, 0.0), share * sigma_max(1.0 - t, 1.0 - s)

    def init(self, length: int) -> PolicyState:
        return jnp.zeros(length, bool), jnp.zeros(length)  # the block, confidences when revealed

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        block, shown = current_block(state[0], observation), state[1]
        t, s = times(self.steps, observation)
        reveal, remask = self.rates(t, s, shown, block & ~observation.is_masked)
        decision = transition(key, reveal, remask, s, block, observation)
        now = jnp.exp(log_prob(observation.logits, observation.proposal))
        return decision, (block, jnp.where(decision.unmask, now, shown))
