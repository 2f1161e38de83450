"""One step of one sequence: a denoiser call, the policy's decision, and the changed row."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from mdm_jax.policies.base import (
    adjust_logits,
    confidence,
    entropy,
    margin,
    wants_lookahead,
)
from mdm_jax.sampling.canvas import block_ids, closed_by_eos
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.outputs import Outputs, call_denoiser, look_ahead
from mdm_jax.sampling.rows import (
    Positions,
    RowContext,
    RowState,
    Sampler,
    clock_of,
    enter_block,
    shown_positions,
)
from mdm_jax.sampling.tokens import demote_tokens, draw_logits, propose
from mdm_jax.types import Count, Decision, Logits, Mask, Observation, RowKey, Tokens, Trace


def denoise_step(
    sampler: Sampler, row: RowState, context: RowContext, step: Count
) -> tuple[RowState, Trace | None]:
    """One denoiser call and one decision; a finished row is returned unchanged.

    Args:
      step: index of the call; its random draws come from fold_in(context.key, step).
    """
    row = enter_block(row, sampler.config)
    outputs = call_denoiser(sampler, row, context, shown_positions(sampler, row))
    return reveal_step(sampler, row, context, step, outputs)


def reveal_step(
    sampler: Sampler, row: RowState, context: RowContext, step: Count, outputs: Outputs
) -> tuple[RowState, Trace | None]:
    """The policy's decision on a denoiser's outputs, applied to a row after `enter_block`.

    A finished row is returned unchanged.

    Returns:
      The row, and the step's entry of the trace (None unless `config.record`).
    """
    config, positions = sampler.config, outputs.positions
    k_token, k_policy = jax.random.split(jax.random.fold_in(context.key, step))
    logits, is_masked = outputs.logits, row.window[positions] == config.mask_id
    clock = clock_of(row, context)
    adjusted, state = adjust_logits(sampler.policy, logits, is_masked, clock, row.state)
    observation = observe(k_token, row, context, step, outputs._replace(logits=adjusted), config)
    if wants_lookahead(sampler.policy):
        ahead = look_ahead(sampler, row, context, observation.proposal)
        observation = observation._replace(lookahead=ahead)
    decision, state = sampler.policy(k_policy, observation, state)
    decision = _permitted(decision, observation, context.response[positions], config)
    after = reveal(decision, observation.proposal, step, row, context, positions, config)
    finite = row.finite & all_finite(logits, is_masked)
    after = after._replace(finite=finite, state=state)
    if not config.record:
        return after, None
    shown = shown_entries(observation, decision)
    return after, trace_entry(shown, decision.record, row, positions, config)


def observe(
    key: RowKey,
    row: RowState,
    context: RowContext,
    step: Count,
    outputs: Outputs,
    config: SamplerConfig,
) -> Observation:
    """What the policy is shown; `key` draws the proposed tokens."""
    positions, length = outputs.positions, len(row.window)
    is_masked = row.window[positions] == config.mask_id
    drawn = config.temperature, config.top_p, config.top_k
    proposal = propose(key, outputs.logits, *drawn, positions)
    return Observation(
        logits=_shown_logits(outputs.logits, proposal, config),
        proposal=proposal,
        is_masked=is_masked,
        eligible=is_masked & (block_ids(length, config.block_length)[positions] == row.block),
        step=step,
        budget=jnp.asarray(config.budget, jnp.int32),
        block_step=row.block_step,
        block_masks=row.block_masks,
        num_blocks=context.num_blocks,
        hidden=outputs.hidden,
        verifier_prob=outputs.verifier_prob,
        dependence=outputs.dependence,
    )


def all_finite(logits: Logits, is_masked: Mask) -> Bool[Array, ""]:
    """Whether every masked position has a largest logit that is a number; ids at -inf are none."""
    return jnp.all(~is_masked | jnp.isfinite(jnp.max(logits, axis=-1)))


def _shown_logits(logits: Logits, proposal: Tokens, config: SamplerConfig) -> Logits:
    """The logits that the policy sees."""
    if config.policy_sees_draw:
        logits = draw_logits(logits, config.temperature, config.top_p, config.top_k)
    return demote_tokens(logits, proposal, config.late_ids)


def _permitted(
    decision: Decision, observation: Observation, response: Mask, config: SamplerConfig
) -> Decision:
    """The decision within the sampler's rules: only eligible positions are revealed, only generated
    ones re-masked, and the last permitted step reveals all that is masked.
    """
    is_masked = observation.is_masked
    last = config.commit & (observation.step == config.budget - 1)
    active = jnp.any(is_masked)  # a finished row stays finished while other rows run
    unmask = jnp.where(last, is_masked, decision.unmask & observation.eligible)
    remask = decision.remask & response & ~is_masked & ~last & active
    return decision._replace(unmask=unmask, remask=remask)


def reveal(
    decision: Decision,
    proposal: Tokens,
    step: Count,
    row: RowState,
    context: RowContext,
    positions: Positions,
    config: SamplerConfig,
) -> RowState:
    """Write tokens and masks, fill up what follows an EOS, and count the call.

    Positions that an EOS closed are masked again if it is re-masked.
    """
    was_masked = row.window == config.mask_id
    revealed = jnp.where(decision.unmask, proposal, row.window[positions])
    written = row.window.at[positions].set(jnp.where(decision.remask, config.mask_id, revealed))
    window, closed = written, row.closed
    if config.cut_eos and config.eos_id is not None:
        window = jnp.where(closed, config.mask_id, written)
        closed = closed_by_eos(window, context.response, config.mask_id, config.eos_id)
        window = jnp.where(closed, config.eos_id, window)
    revealed_at = jnp.where(was_masked, step, row.revealed_at)
    spent = jnp.any(was_masked).astype(jnp.int32)
    calls = spent * (1 + jnp.asarray(decision.extra_calls, jnp.int32))
    return row._replace(
        window=window,
        closed=closed,
        revealed_at=jnp.where(window == config.mask_id, -1, revealed_at),
        nfe=row.nfe + calls,
        block_step=row.block_step + spent,
    )


def shown_entries(observation: Observation, decision: Decision) -> dict[str, Array]:
    """What the trace keeps of each position that was shown."""
    logits = observation.logits
    return {
        "unmask": decision.unmask,
        "remask": decision.remask,
        "eligible": observation.eligible,
        "proposal": observation.proposal,
        "confidence": confidence(logits),
        "margin": margin(logits),
        "entropy": entropy(logits),
    }


def trace_entry(
    shown: dict[str, Array],
    record: Any,
    row: RowState,
    positions: Positions,
    config: SamplerConfig,
) -> Trace:
    """The step's entry of the trace: zero at positions that were not shown, and all zero for a row
    that had finished.
    """
    is_masked = row.window == config.mask_id
    window = jax.tree.map(
        lambda leaf: jnp.zeros(is_masked.shape, leaf.dtype).at[positions].set(leaf), shown
    )
    active = jnp.any(is_masked)
    return jax.tree.map(
        lambda leaf: jnp.where(active, leaf, jnp.zeros_like(leaf)),
        Trace(is_masked=is_masked, record=record, **window),
    )
