"""log p_policy(x | prompt): the probability with which an order generates a clean sequence."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.errors import check_range
from mdm_jax.orders.fidelity.ragged import run_ragged
from mdm_jax.orders.fidelity.teacher_forcing import (
    Forcing,
    Sequence,
    State,
    is_running,
    observe,
    reveal,
    rows_at_once,
    start_state,
)
from mdm_jax.policies.base import RevealOnly
from mdm_jax.policies.heuristics import EntropyBound
from mdm_jax.types import Count, RowKey, Scalar


class Walk(NamedTuple):
    """How far one sequence has been generated."""

    state: State
    log_prob: Scalar  # of what has been revealed, nats
    step: Int[Array, " window"]  # at which each position was revealed; the last where it was not


class Likelihood(NamedTuple):
    """How an order generates one clean sequence."""

    log_prob: Scalar  # nats
    calls: Count


def walk_step(
    walk: Walk,
    row: tuple[RowKey, Sequence],
    policy: RevealOnly,
    denoise: Denoise,
    forcing: Forcing,
) -> Walk:
    """One denoiser call: the policy chooses, the sequence's tokens are revealed."""
    key, sequence = row
    observation, log_probs = observe(sequence, walk.state, denoise, forcing)
    unmask = policy.unmask(jax.random.fold_in(key, walk.state.calls), observation)
    state, unmask = reveal(walk.state, unmask, sequence, forcing)
    return Walk(
        state,
        walk.log_prob + jnp.sum(jnp.where(unmask, log_probs, 0.0)),
        jnp.where(unmask, walk.state.calls, walk.step),
    )


def follow_order(
    keys: Key[Array, " n"],
    sequences: Sequence,
    policy: RevealOnly,
    denoise: Denoise,
    forcing: Forcing,
    chunk: int = 64,
) -> Walk:
    """Generate each sequence by a policy that never re-masks and sees no proposals.

    Costs as many denoiser calls as the policy takes.

    Args:
      keys: one per sequence; call s uses fold_in(key, s).
      sequences: leading axis [n].
      chunk: sequences that are advanced together; fewer where they are large (`rows_at_once`).
    """
    chunk = rows_at_once(sequences.tokens.shape[1], forcing, chunk)
    states = jax.vmap(partial(start_state, forcing=forcing))(sequences)
    last = jnp.full(states.is_masked.shape, forcing.budget - 1, jnp.int32)
    walks = Walk(states, jnp.zeros(len(sequences.tokens), jnp.float32), last)
    step = partial(walk_step, policy=policy, denoise=denoise, forcing=forcing)
    fixed = keys, sequences
    return run_ragged(step, lambda walk: is_running(walk.state), walks, fixed, chunk)


def order_likelihood(
    keys: Key[Array, " n"],
    sequences: Sequence,
    policy: RevealOnly,
    denoise: Denoise,
    forcing: Forcing,
    chunk: int = 64,
) -> Likelihood:
    """Likelihood of each sequence under a policy; arguments and cost as of `follow_order`."""
    walks = follow_order(keys, sequences, policy, denoise, forcing, chunk)
    return Likelihood(walks.log_prob, walks.state.calls)


@dataclass(frozen=True)
class Reference:
    """Sequential decoding, beside which an order is measured.

    Attributes:
      policy: how it reveals. By default the position of lowest entropy, and together with it those whose
        entropies add up to `gamma` nats at most, which bounds what each of its calls can lose by the
        same; gamma -1 is one position per call. `Random(steps)` takes a random order.
      orders: passes whose probabilities are averaged; several make sense for a random policy.
      budget: most denoiser calls of a pass; None: one for each position.
    """

    policy: RevealOnly = field(default_factory=lambda: EntropyBound(-1.0))
    orders: int = 1
    budget: int | None = None

    def __post_init__(self) -> None:
        check_range("orders", self.orders, 1)


def sequential_likelihood(
    key: RowKey,
    sequences: Sequence,
    reference: Reference,
    denoise: Denoise,
    forcing: Forcing,
    chunk: int = 64,
) -> Likelihood:
    """log p_sequential(x | prompt) of each sequence, of the mean probability over `orders` passes; the
    calls are those of all passes.
    """
    count, length = sequences.tokens.shape
    slow = replace(forcing, budget=reference.budget or forcing.window or length)

    def one_pass(index: Int[Array, ""]) -> Likelihood:
        keys = row_keys(jax.random.fold_in(key, index), jnp.arange(count))
        return order_likelihood(keys, sequences, reference.policy, denoise, slow, chunk)

    found = jax.lax.map(one_pass, jnp.arange(reference.orders))
    mean = jax.nn.logsumexp(found.log_prob, axis=0) - jnp.log(reference.orders)
    return Likelihood(mean, jnp.sum(found.calls, axis=0))
