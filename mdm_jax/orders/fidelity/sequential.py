"""Sequential decoding of what an order has left: what the rest of a canvas would have been."""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from mdm_jax.denoisers.base import Denoise
from mdm_jax.orders.fidelity.config import Parts
from mdm_jax.orders.fidelity.exploration import Exploration, Row, Visit, reveal_own
from mdm_jax.orders.fidelity.likelihood import Reference
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
from mdm_jax.types import Mask, RowKey, Scalar, Tokens


class Completion(NamedTuple):
    """A canvas that sequential decoding first retraces, then completes."""

    tokens: Tokens  # drawn ones where the canvas leaves something masked
    state: State
    log_past: Scalar  # log p_sequential of what the canvas shows, nats
    log_rest: Scalar  # and of what is drawn then


def complete_sequentially(
    keys: Key[Array, " n"],
    visits: Visit,
    reference: Reference,
    denoise: Denoise,
    forcing: Forcing,
    chunk: int,
) -> Completion:
    """Retrace and complete the canvases of rows that drew tokens of their own.

    Other rows come back as they are, with log-probabilities of 0, and cost nothing.

    Args:
      keys: one per visit.
      visits: leading axis [n].
    """
    slow = replace(forcing, budget=visits.is_masked.shape[1])

    def start(visit: Visit) -> Completion:
        state = start_state(visit.sequence, slow)
        state = state._replace(is_masked=state.is_masked & visit.on_policy)
        return Completion(visit.sequence.tokens, state, *jnp.zeros((2,), jnp.float32))

    step = partial(completion_step, reference=reference, denoise=denoise, forcing=slow)
    fixed = keys, visits.sequence.maskable, visits.is_masked
    rows = jax.vmap(start)(visits)
    chunk = rows_at_once(visits.sequence.tokens.shape[1], slow, chunk)
    return run_ragged(step, lambda row: is_running(row.state), rows, fixed, chunk)


def completion_step(
    now: Completion,
    row: tuple[RowKey, Mask, Mask],
    reference: Reference,
    denoise: Denoise,
    forcing: Forcing,
) -> Completion:
    """One denoiser call of one row."""
    key, maskable, left = row
    k_set, k_token = jax.random.split(jax.random.fold_in(key, now.state.calls))
    sequence = Sequence(now.tokens, maskable)
    observation, log_probs = observe(sequence, now.state, denoise, forcing)
    past = observation.eligible & ~left
    retracing = jnp.any(past)
    observation = observation._replace(eligible=jnp.where(retracing, past, observation.eligible))
    chosen = reference.policy.unmask(k_set, observation)
    seen = observation.logits, log_probs
    state, chosen, sequence, log_probs = reveal_own(
        k_token, chosen, now.state, sequence, seen, ~retracing, forcing
    )
    gained = jnp.sum(jnp.where(chosen, log_probs, 0.0))
    return Completion(
        sequence.tokens,
        state,
        now.log_past + jnp.where(retracing, gained, 0.0),
        now.log_rest + jnp.where(retracing, 0.0, gained),
    )


class Retrace(NamedTuple):
    """How far sequential decoding has followed what a row revealed, call by call."""

    state: State
    log_probs: Float[Array, " budget"]  # of what each call revealed


def log_retraced(
    keys: Key[Array, " n"],
    seen: Exploration,
    rows: Row,
    parts: Parts,
    denoise: Denoise,
) -> Retrace:
    """log p_sequential of what rows with tokens of their own show, in the order of their calls.

    Sequential decoding reveals first what the row's first call revealed, one position after another,
    then what its second call did. So one pass gives the log-probability of all canvases on the way. Other
    rows cost nothing.

    Args:
      keys: one per row.
      seen, rows: leading axis [n].
    """
    slow = replace(parts.forcing, budget=seen.sets.shape[-1])

    def start(seen: Exploration, row: Row) -> Retrace:
        state = start_state(Sequence(seen.tokens, row.maskable), slow)
        state = state._replace(is_masked=state.is_masked & row.on_policy)
        return Retrace(state, jnp.zeros_like(seen.log_probs))

    step = partial(retrace_step, reference=parts.reference, denoise=denoise, forcing=slow)
    fixed = keys, Sequence(seen.tokens, rows.maskable), seen.revealed
    retraces = jax.vmap(start)(seen, rows)
    chunk = rows_at_once(seen.tokens.shape[1], slow, parts.config.chunk)
    return run_ragged(step, lambda row: is_running(row.state), retraces, fixed, chunk)


def retrace_step(
    now: Retrace,
    row: tuple[RowKey, Sequence, Bool[Array, "budget window"]],
    reference: Reference,
    denoise: Denoise,
    forcing: Forcing,
) -> Retrace:
    """One denoiser call of one row."""
    key, sequence, revealed = row
    observation, log_probs = observe(sequence, now.state, denoise, forcing)
    left = revealed & now.state.is_masked[None]
    call = jnp.argmax(jnp.any(left, axis=-1))
    observation = observation._replace(eligible=left[call])
    chosen = reference.policy.unmask(jax.random.fold_in(key, now.state.calls), observation)
    state, chosen = reveal(now.state, chosen, sequence, forcing)
    gained = jnp.sum(jnp.where(chosen, log_probs, 0.0))
    return Retrace(state, now.log_probs.at[call].add(gained))
