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
    rows_at_once,
    start_state,
)
from mdm_jax.policies.adaptive import AdaptivePolicy, or_best_utility
from mdm_jax.policies.networks.adaptive_network import AdaptiveFeatures, blank_features
from mdm_jax.policies.pair_costs import Change, draw_set
from mdm_jax.types import Count, Mask, RowKey, Scalar, Tokens


class FidelityBatch(NamedTuple):
    """Clean sequences with their prompts shown, and how far the run has come (0 to 1, per row)."""

    tokens: Int[Array, "batch length"]
    maskable: Bool[Array, "batch length"]
    progress: Float[Array, " batch"]


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
    features: AdaptiveFeatures  # what the policy saw before each call [budget, ...],
    log_probs: Float[Array, " budget"]  # the log-probability of what was shown,
    sets: Bool[Array, "budget window"]  # what was drawn,
    revealed: Bool[
        Array, "budget window"
    ]  # and what was revealed: one position, where that is empty


class Visit(NamedTuple):
    """One visited state of a row."""

    sequence: Sequence
    on_policy: Bool[Array, ""]
    price: Scalar
    is_masked: Mask
    calls: Count
    log_prob: Scalar  # log p_order of what is shown, nats


def draw_prices(key: RowKey, count: int, prices: tuple[float, float]) -> Float[Array, " count"]:
    """A price of a call for each sequence, log-uniform between the least and the largest."""
    low, high = jnp.log(jnp.asarray(prices, jnp.float32))
    return jnp.exp(jax.random.uniform(key, (count,), jnp.float32, low, high))


def explore(
    tokens: Int[Array, "n length"],
    rows: Row,
    policy: AdaptivePolicy,
    denoise: Denoise,
    forcing: Forcing,
    chunk: int,
    exploration: float = 0.0,
) -> Exploration:
    """Reveal all rows to the end with sets drawn by the policy.

    Args:
      rows: leading axis [n].
      exploration: share of the calls at which a set has little to do with the policy: its
        probabilities are averaged with a uniformly random one, the same for all positions.
    """

    def start(tokens: Tokens, row: Row) -> Exploration:
        state = start_state(Sequence(tokens, row.maskable), forcing)
        window = len(state.is_masked)
        features = blank_features(window, (forcing.budget,))
        sets = jnp.zeros((forcing.budget, window), bool)
        logs = jnp.zeros((forcing.budget,), jnp.float32)
        return Exploration(tokens, state, jnp.zeros((), jnp.float32), features, logs, sets, sets)

    chunk = rows_at_once(tokens.shape[1], forcing, chunk)
    step = partial(
        explore_step, policy=policy, denoise=denoise, forcing=forcing, exploration=exploration
    )
    return run_ragged(
        step, lambda now: is_running(now.state), jax.vmap(start)(tokens, rows), rows, chunk
    )


def explore_step(
    now: Exploration,
    row: Row,
    policy: AdaptivePolicy,
    denoise: Denoise,
    forcing: Forcing,
    exploration: float,
) -> Exploration:
    """One denoiser call of one row."""
    k_set, k_mix, k_token = jax.random.split(jax.random.fold_in(row.key, now.state.calls), 3)
    sequence, state = Sequence(now.tokens, row.maskable), now.state
    observation, log_probs = observe(sequence, state, denoise, forcing)
    features = policy.featurize(observation)._replace(price=row.price)
    scores, eligible = policy.scores(features), observation.eligible
    drawn = draw_set(k_set, scores, eligible, mixing(k_mix, exploration))
    chosen = or_best_utility(k_set, drawn, scores.utilities, eligible)
    seen = observation.logits, log_probs
    after, chosen, sequence, log_probs = reveal_own(
        k_token, chosen, state, sequence, seen, row.on_policy, forcing
    )
    return Exploration(
        sequence.tokens,
        after,
        now.log_prob + jnp.sum(jnp.where(chosen, log_probs, 0.0)),
        jax.tree.map(lambda all, one: all.at[state.calls].set(one), now.features, features),
        now.log_probs.at[state.calls].set(now.log_prob),
        now.sets.at[state.calls].set(drawn),
        now.revealed.at[state.calls].set(chosen),
    )


def mixing(key: RowKey, exploration: float) -> Change:
    """Now and then the average of probabilities and one random number in their place."""
    if not exploration:
        return lambda probs: probs
    k_often, k_rate = jax.random.split(key)
    rate = jax.random.uniform(k_rate, (), jnp.float32)
    now = jax.random.bernoulli(k_often, exploration)
    return lambda probs: jnp.where(now, (probs + rate) / 2, probs)


def reveal_own(
    key: RowKey,
    chosen: Mask,
    state: State,
    sequence: Sequence,
    seen: tuple[Float[Array, "window vocab"], Float[Array, " window"]],
    draws: Bool[Array, ""],
    forcing: Forcing,
) -> tuple[State, Mask, Sequence, Float[Array, " window"]]:
    """The state after one call that may draw tokens of its own.

    Args:
      seen: logits, and log p of the sequence's tokens.
      draws: whether tokens are drawn, or those of the sequence kept. What a drawn EOS closes is EOS.

    Returns:
      The next state, what was revealed, the sequence with what was drawn, and log p of its tokens.
    """
    logits, log_probs = seen
    drawn = jax.random.categorical(key, logits, axis=-1, mode="high")
    logs = jnp.take_along_axis(jax.nn.log_softmax(logits), drawn[:, None], axis=-1)[:, 0]
    tried = with_tokens(sequence, drawn, state.is_masked & draws, forcing)
    after, revealed = reveal(state, chosen, tried, forcing)
    own = with_tokens(sequence, drawn, revealed & draws, forcing)
    if forcing.eos_id is not None:
        closed = state.is_masked & ~after.is_masked & ~revealed
        end = jnp.full_like(drawn, forcing.eos_id)
        own = with_tokens(own, end, closed & draws, forcing)
    return after, revealed, own, jnp.where(revealed & draws, logs, log_probs)


def with_tokens(
    sequence: Sequence, tokens: Int[Array, " window"], replaced: Mask, forcing: Forcing
) -> Sequence:
    """The sequence with other tokens in some places of the response."""
    positions = response_positions(sequence, forcing)
    tokens = jnp.where(replaced, tokens, sequence.tokens[positions])
    tokens = sequence.tokens.at[positions].set(tokens.astype(sequence.tokens.dtype))
    return sequence._replace(tokens=tokens)


def visits(
    key: RowKey, seen: Exploration, rows: Row, count: int
) -> tuple[Visit, Int[Array, " count"], Bool[Array, " count"]]:
    """Random ones among all the states that rows have visited.

    Returns:
      `count` of them, the row of each, and which are real: False where fewer were visited.
    """
    budget = seen.log_probs.shape[1]
    real = jnp.any(seen.features.is_masked, axis=-1)
    noise = jnp.where(real, jax.random.uniform(key, real.shape, jnp.float32), -1.0)
    chosen = jax.lax.top_k(noise.ravel(), count)[1]
    row, calls = chosen // budget, chosen % budget
    found = Visit(
        Sequence(seen.tokens[row], rows.maskable[row]),
        rows.on_policy[row],
        rows.price[row],
        seen.features.is_masked[row, calls],
        calls,
        seen.log_probs[row, calls],
    )
    return found, row, real[row, calls]
