"""The policy interface, scores computed from logits, and ranking with random ties."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.chunks import map_positions
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Count, Decision, Logits, Mask, Observation, RowKey, Scalar, Tokens

PolicyState = Any


class Clock(NamedTuple):
    """How far a sequence is when the denoiser is called: the fields of `Observation` of these names."""

    block_step: Count
    num_blocks: Count


Scores = Float[Array, " length"]
T = TypeVar("T")


@runtime_checkable
class Policy(Protocol):
    """Decides which positions to reveal (or re-mask) next: a callable pytree, knobs are leaves.

    Five optional boolean attributes tell the sampler what to put into the `Observation`:

    - `wants_window` (default True): show the whole window. False: only the current block, so that
      logits are computed of nothing else.
    - `wants_hidden` (default False): fill in `Observation.hidden`; needs a `DenoiseHidden`.
    - `wants_verifier` (default False): fill in `Observation.verifier_prob`; needs a
      `DenoiseVerifier`.
    - `wants_dependence` (default False): fill in `Observation.dependence`; needs a
      `DenoiseDependence`.
    - `wants_lookahead` (default False): fill in `Observation.lookahead`, with which the policy calls the
      denoiser itself; `Decision.extra_calls` says how often, so that the calls are counted.

    An optional method `adjust_logits(logits, is_masked, clock, state) -> (logits, state)` changes the
    logits before tokens are drawn from them and the policy is shown them. An optional method
    `time(clock)` says at which time the canvas is, for a `DenoiseTimed`.
    """

    def init(self, length: int) -> PolicyState:
        """The policy's memory at the start of a sequence; () if it has none."""
        ...

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]: ...


def wants_window(policy: Policy) -> bool:
    """Whether the policy is shown more than the current block."""
    return getattr(policy, "wants_window", True)


def wants_hidden(policy: Policy) -> bool:
    """Whether the policy uses the denoiser's hidden states."""
    return getattr(policy, "wants_hidden", False)


def wants_verifier(policy: Policy) -> bool:
    """Whether the policy uses the verifier's probabilities of the revealed tokens."""
    return getattr(policy, "wants_verifier", False)


def wants_dependence(policy: Policy) -> bool:
    """Whether the policy uses how much positions depend on each other."""
    return getattr(policy, "wants_dependence", False)


def wants_lookahead(policy: Policy) -> bool:
    """Whether the policy makes denoiser calls of its own."""
    return getattr(policy, "wants_lookahead", False)


def adjust_logits(
    policy: Policy, logits: Logits, is_masked: Mask, clock: Clock, state: PolicyState
) -> tuple[Logits, PolicyState]:
    """The logits that count, and the policy's memory; both unchanged for most policies."""
    adjust = getattr(policy, "adjust_logits", None)
    return (logits, state) if adjust is None else adjust(logits, is_masked, clock, state)


def time_of(policy: Policy, clock: Clock) -> Scalar | None:
    """The time of the canvas in the process that the policy reverses; None for most policies."""
    time = getattr(policy, "time", None)
    return None if time is None else time(clock)


class RevealOnly(abc.ABC):
    """Base of policies without memory that never re-mask and use only the current block."""

    wants_window: ClassVar[bool] = False

    @abc.abstractmethod
    def unmask(self, key: RowKey, observation: Observation) -> Mask:
        """The positions to reveal, [length] bool; a subset of `observation.eligible`."""

    def init(self, length: int) -> PolicyState:
        return ()

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        unmask = self.unmask(key, observation)
        return Decision(unmask=unmask, remask=jnp.zeros_like(unmask)), state


def confidence(logits: Logits) -> Scores:
    """Largest probability at each position."""
    return map_positions(lambda part: jnp.exp(-_log_normaliser(part)[1][:, 0]), logits)


def margin(logits: Logits) -> Scores:
    """Largest minus second largest probability at each position."""
    return map_positions(_margin, logits)


def _margin(logits: Logits) -> Scores:
    best = jnp.argmax(logits, axis=-1, keepdims=True)
    is_best = jnp.arange(logits.shape[-1])[None, :] == best
    others = jnp.where(is_best, -jnp.inf, logits)  # far cheaper than a sort
    top, total = _log_normaliser(logits)
    second = (jnp.max(others, axis=-1, keepdims=True) - top) - total
    return (jnp.exp(-total) - jnp.exp(second))[:, 0]


def entropy(logits: Logits) -> Scores:
    """Entropy of each position's distribution, nats."""
    return map_positions(_entropy, logits)


def _entropy(logits: Logits) -> Scores:
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    probs = jnp.exp(log_probs)
    return -jnp.sum(jnp.where(probs > 0, probs * log_probs, 0.0), axis=-1)


def _log_normaliser(logits: Logits) -> tuple[Float[Array, "length 1"], Float[Array, "length 1"]]:
    """The largest logit, and log sum exp(logits - largest)."""
    top = jnp.max(logits, axis=-1, keepdims=True)
    return top, jnp.log(jnp.sum(jnp.exp(logits - top), axis=-1, keepdims=True))


def log_prob(logits: Logits, tokens: Tokens) -> Scores:
    """Log-probability of one token at each position, nats."""
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    return jnp.take_along_axis(log_probs, tokens[:, None], axis=-1)[:, 0]


def rank(key: RowKey, scores: Scores, eligible: Mask) -> Int[Array, " length"]:
    """Rank of each position by falling score, 0 = best; equal scores in random order.

    Positions that are not eligible rank after all that are. Compares all pairs: on a CPU, with up to
    about a hundred positions, this takes half the time of a sort or less.
    """
    ties = jax.random.uniform(key, scores.shape, jnp.float32)
    positions = jnp.arange(scores.shape[0])

    def pairs(compare: Callable, values: Array) -> Bool[Array, "length length"]:
        return compare(values[:, None], values[None, :])  # [i, j]: compare values i and j

    tied_earlier = pairs(jnp.less, ties)
    tied_earlier |= pairs(jnp.equal, ties) & pairs(jnp.less, positions)
    earlier = pairs(jnp.greater, scores) | (pairs(jnp.equal, scores) & tied_earlier)
    earlier = pairs(jnp.greater, eligible) | (pairs(jnp.equal, eligible) & earlier)
    return jnp.sum(earlier, axis=0, dtype=jnp.int32)


def top(key: RowKey, scores: Scores, eligible: Mask, count: Int[Array, ""] | int) -> Mask:
    """The `count` eligible positions of highest score, ties broken at random (all, if fewer)."""
    return eligible & (rank(key, scores, eligible) < count)


def best(key: RowKey, scores: Scores, eligible: Mask) -> Mask:
    """`top` with a count of 1, in linear time: the same position for the same key."""
    tied = eligible & (scores == jnp.max(jnp.where(eligible, scores, -jnp.inf)))
    ties = jnp.where(tied, jax.random.uniform(key, scores.shape, jnp.float32), jnp.inf)
    return tied & (jnp.arange(len(tied)) == jnp.argmin(ties))


def or_best(key: RowKey, chosen: Mask, scores: Scores, eligible: Mask) -> Mask:
    """`chosen`, or where it is empty the best eligible position: progress is guaranteed."""
    return jnp.where(jnp.any(chosen), chosen, best(key, scores, eligible))


def stack(policies: list[T]) -> T:
    """One policy whose leaves carry an axis: the knobs of several policies of the same kind.

    Raises:
      ValueError: no policies, or policies of different kinds or static settings.
    """
    kinds = {jax.tree.structure(item) for item in policies}
    if len(kinds) != 1:
        raise ValueError(f"can stack policies of one kind, got {len(kinds)} kinds in {policies}")
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *policies)


@pytree_dataclass
class RevealAll(RevealOnly):
    """Everything at once: one-step generation."""

    def unmask(self, key: RowKey, observation: Observation) -> Mask:
        return observation.eligible


@pytree_dataclass
class RevealNone(RevealOnly):
    """Nothing at any step, until the sampler reveals all at the last one of the budget."""

    def unmask(self, key: RowKey, observation: Observation) -> Bool[Array, " length"]:
        return jnp.zeros_like(observation.eligible)
