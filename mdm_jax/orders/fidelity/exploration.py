"""States worth learning from: where an order comes along clean sequences, and with tokens of its own."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.denoisers.base import Denoise
from mdm_jax.orders.fidelity.ragged import run_ragged
from mdm_jax.orders.fidelity.teacher_forcing import (
    Forcing,
    Sequence,
    State,
    is_running,
    observe,
    response_positions,
    reveal,
    start_state,
)
from mdm_jax.policies.adaptive import AdaptivePolicy, or_first_best
from mdm_jax.types import Count, Mask, RowKey, Scalar, Tokens


class Row(NamedTuple):
    """What stays the same of a row."""

    key: RowKey
    maskable: Mask
    on_policy: Bool[Array, ""]  # whether it draws tokens of its own
    price: Scalar


class Exploration(NamedTuple):
    """A row that is revealed by drawn sets, and what it has seen on its way."""

    tokens: Tokens  # a row on its own puts what it draws in place of the sequence's
    state: State
    log_prob: Scalar  # of what is shown, nats
    visited: Bool[Array, "budget window"]  # what was masked before each call,
    log_probs: Float[Array, " budget"]  # the log-probability of what was shown,
    sets: Bool[Array, "budget window"]  # and what was drawn; where that is empty, one was revealed


class Visit(NamedTuple):
    """One visited state of a row."""

    sequence: Sequence
    on_policy: Bool[Array, ""]
    price: Scalar
    is_masked: Mask
    calls: Count
    log_prob: Scalar  # log p_order of what is shown, nats


def explore(
    tokens: Int[Array, "n length"],
    rows: Row,
    policy: AdaptivePolicy,
    denoise: Denoise,
    forcing: Forcing,
    chunk: int,
) -> Exploration:
    """Reveal all rows to the end with sets drawn by the policy.

    Args:
      rows: leading axis [n].
    """

    def start(tokens: Tokens, row: Row) -> Exploration:
        state = start_state(Sequence(tokens, row.maskable), forcing)
        blank = jnp.zeros((forcing.budget, len(state.is_masked)), bool)
        return Exploration(tokens, state, jnp.zeros(()), blank, jnp.zeros(forcing.budget), blank)

    step = partial(explore_step, policy=policy, denoise=denoise, forcing=forcing)
    return run_ragged(
        step, lambda now: is_running(now.state), jax.vmap(start)(tokens, rows), rows, chunk
    )


def explore_step(
    now: Exploration, row: Row, policy: AdaptivePolicy, denoise: Denoise, forcing: Forcing
) -> Exploration:
    """One denoiser call of one row."""
    k_set, k_token = jax.random.split(jax.random.fold_in(row.key, now.state.calls))
    sequence, state = Sequence(now.tokens, row.maskable), now.state
    observation, log_probs = observe(sequence, state, denoise, forcing)
    utilities = policy.utilities(policy.featurize(observation)._replace(price=row.price))
    drawn = jax.random.bernoulli(k_set, jax.nn.sigmoid(utilities)) & observation.eligible
    chosen = or_first_best(drawn, utilities, observation.eligible)
    after, chosen = reveal(state, chosen, sequence, forcing)
    replaced = chosen & row.on_policy
    sequence, log_probs = with_own_tokens(
        k_token, sequence, observation.logits, log_probs, replaced, forcing
    )
    return Exploration(
        sequence.tokens,
        after,
        now.log_prob + jnp.sum(jnp.where(chosen, log_probs, 0.0)),
        now.visited.at[state.calls].set(state.is_masked),
        now.log_probs.at[state.calls].set(now.log_prob),
        now.sets.at[state.calls].set(drawn),
    )


def with_own_tokens(
    key: RowKey,
    sequence: Sequence,
    logits: Float[Array, "window vocab"],
    log_probs: Float[Array, " window"],
    replaced: Mask,
    forcing: Forcing,
) -> tuple[Sequence, Float[Array, " window"]]:
    """The sequence with drawn tokens in some places, and log p of the tokens with theirs there."""
    drawn = jax.random.categorical(key, logits, axis=-1, mode="high")
    logs = jnp.take_along_axis(jax.nn.log_softmax(logits), drawn[:, None], axis=-1)[:, 0]
    positions = response_positions(sequence, forcing)
    tokens = jnp.where(replaced, drawn, sequence.tokens[positions])
    tokens = sequence.tokens.at[positions].set(tokens.astype(sequence.tokens.dtype))
    return sequence._replace(tokens=tokens), jnp.where(replaced, logs, log_probs)


def visits(
    key: RowKey, seen: Exploration, rows: Row, count: int
) -> tuple[Visit, Int[Array, " count"], Bool[Array, " count"]]:
    """Random ones among all the states that rows have visited.

    Returns:
      `count` of them, the row of each, and which are real: False where fewer were visited.
    """
    budget = seen.log_probs.shape[1]
    real = jnp.any(seen.visited, axis=-1)
    noise = jnp.where(real, jax.random.uniform(key, real.shape), -1.0)
    chosen = jax.lax.top_k(noise.ravel(), count)[1]
    row, calls = chosen // budget, chosen % budget
    found = Visit(
        Sequence(seen.tokens[row], rows.maskable[row]),
        rows.on_policy[row],
        rows.price[row],
        seen.visited[row, calls],
        calls,
        seen.log_probs[row, calls],
    )
    return found, row, real[row, calls]
