"""One step of one sequence: from a denoiser's logits to a changed row."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax.policies.base import Policy, Scores, confidence, entropy, margin
from mdm_jax.sampling.canvas import (
    block_ids,
    close_after_eos,
    count_blocks,
    current_block,
    response_start,
)
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.tokens import demote_tokens, draw_logits, mask_logits, propose
from mdm_jax.types import (
    Count,
    Decision,
    Logits,
    Mask,
    Observation,
    RowKey,
    Tokens,
    Trace,
)

Positions = Int[Array, " shown"]  # positions of the window


class RowState(NamedTuple):
    """What changes in one sequence from step to step; all arrays of the window [length]."""

    window: Tokens
    revealed_at: Tokens  # step of each position's last reveal, -1 before it
    nfe: Count
    block: Count  # the current block,
    block_step: Count  # denoiser calls already spent on it,
    block_masks: Count  # and how much of it was masked when it was entered
    state: Any  # the policy's memory


class Outputs(NamedTuple):
    """What a denoiser says of the positions that the policy is shown."""

    logits: Logits  # float32, ruled out what is never produced
    hidden: Float[Array, "length features"] | None  # where the policy wants them
    verifier_prob: Scores | None = None  # where the policy wants it: see `Observation`


class RowContext(NamedTuple):
    """What stays as it was in one sequence."""

    canvas: Tokens  # whole canvas at the start
    start: Count  # where the window begins
    response: Mask  # window positions that are generated
    num_blocks: Count


def prepare(canvas: Tokens, policy: Policy, config: SamplerConfig) -> tuple[RowState, RowContext]:
    """The first row state, and what never changes."""
    length = canvas.shape[0] if config.gen_length is None else config.gen_length
    # slicing clamps its start; the positions asked of the denoiser must be the same ones
    start = jnp.minimum(response_start(canvas, config.mask_id), canvas.shape[0] - length)
    window = jax.lax.dynamic_slice(canvas, (start,), (length,))
    response = window == config.mask_id
    blocks = block_ids(length, config.block_length)
    zero = jnp.zeros((), jnp.int32)
    never = jnp.full((length,), -1)
    row = RowState(window, never, zero, zero - 1, zero, zero, policy.init(length))
    return row, RowContext(canvas, start, response, count_blocks(response, blocks))


def finish(row: RowState, context: RowContext) -> Tokens:
    """The whole canvas with the window put back."""
    return jax.lax.dynamic_update_slice(context.canvas, row.window, (context.start,))


def apply_logit_mask(logits: Float[Array, "wanted vocab"], config: SamplerConfig) -> Logits:
    """float32 logits with everything that is never produced at -inf."""
    never = (config.mask_id, config.pad_id, *config.unused, *config.forbid_ids)
    return mask_logits(logits.astype(jnp.float32), never)


def reveal_step(
    key: RowKey,
    row: RowState,
    context: RowContext,
    step: Count,
    outputs: Outputs,
    positions: Positions,
    *,
    policy: Policy,
    config: SamplerConfig,
) -> tuple[RowState, Trace | None]:
    """What the policy makes of a denoiser's outputs; a finished row comes back unchanged.

    The row must have entered its block.

    Args:
      here: the positions of the window that the outputs speak of, all that the policy is shown.
    """
    k_token, k_policy = jax.random.split(jax.random.fold_in(key, step))
    is_masked = row.window[positions] == config.mask_id
    logits, length = outputs.logits, len(row.window)
    subset = None if len(positions) == length else (positions, length)
    drawn = config.temperature, config.top_p, config.top_k
    proposal = propose(k_token, logits, *drawn, subset)
    observation = Observation(
        logits=_shown(logits, proposal, config),
        proposal=proposal,
        is_masked=is_masked,
        eligible=is_masked & (block_ids(length, config.block_length)[positions] == row.block),
        step=step,
        budget=jnp.asarray(config.budget),
        block_step=row.block_step,
        block_masks=row.block_masks,
        num_blocks=context.num_blocks,
        hidden=outputs.hidden,
        verifier_prob=outputs.verifier_prob,
    )
    decision, state = policy(k_policy, observation, row.state)
    decision = _permitted(decision, observation, context.response[positions], config)
    after = _apply(decision, observation, row, context, positions, config)._replace(state=state)
    return after, _trace(observation, decision, row, positions, config) if config.record else None


def _shown(logits: Logits, proposal: Tokens, config: SamplerConfig) -> Logits:
    """The logits that the policy sees."""
    if config.policy_sees_draw:
        logits = draw_logits(logits, config.temperature, config.top_p, config.top_k)
    return demote_tokens(logits, proposal, config.late_ids)


def _permitted(
    decision: Decision, observation: Observation, response: Mask, config: SamplerConfig
) -> Decision:
    """The decision with what the rules add or take away: commit at the end, prompts stay."""
    is_masked = observation.is_masked
    last = config.commit & (observation.step == config.budget - 1)
    active = jnp.any(is_masked)  # a finished row stays finished while its neighbours go on
    unmask = jnp.where(last, is_masked, decision.unmask & observation.eligible)
    remask = decision.remask & response & ~is_masked & ~last & active
    return decision._replace(unmask=unmask, remask=remask)


def _apply(
    decision: Decision,
    observation: Observation,
    row: RowState,
    context: RowContext,
    positions: Positions,
    config: SamplerConfig,
) -> RowState:
    """Write tokens and masks, close what follows an EOS, and charge the step."""
    was_masked = row.window == config.mask_id
    shown = jnp.where(decision.unmask, observation.proposal, row.window[positions])
    window = row.window.at[positions].set(jnp.where(decision.remask, config.mask_id, shown))
    if config.cut_eos and config.eos_id is not None:
        window = close_after_eos(window, context.response, config.mask_id, config.eos_id)
    shown_at = jnp.where(was_masked, observation.step, row.revealed_at)
    spent = jnp.any(was_masked).astype(jnp.int32)
    return row._replace(
        window=window,
        revealed_at=jnp.where(window == config.mask_id, -1, shown_at),
        nfe=row.nfe + spent,
        block_step=row.block_step + spent,
    )


def enter_block(row: RowState, config: SamplerConfig) -> RowState:
    """The row with the counters of a new block started where the last one was finished."""
    is_masked = row.window == config.mask_id
    blocks = block_ids(is_masked.shape[0], config.block_length)
    block = current_block(is_masked, blocks)
    entered = block != row.block
    return row._replace(
        block=block,
        block_step=jnp.where(entered, 0, row.block_step),
        block_masks=jnp.where(entered, jnp.sum(is_masked & (blocks == block)), row.block_masks),
    )


def _trace(
    observation: Observation,
    decision: Decision,
    row: RowState,
    positions: Positions,
    config: SamplerConfig,
) -> Trace:
    """The record of one step: zero where the policy was not shown anything, and all zero for a
    sequence that had finished.
    """
    logits, is_masked = observation.logits, row.window == config.mask_id
    active = jnp.any(is_masked)
    of_shown = {
        "unmask": decision.unmask,
        "remask": decision.remask,
        "eligible": observation.eligible,
        "proposal": observation.proposal,
        "confidence": confidence(logits),
        "margin": margin(logits),
        "entropy": entropy(logits),
    }
    blank = lambda leaf: jnp.zeros(is_masked.shape, leaf.dtype)  # noqa: E731
    whole = {name: blank(leaf).at[positions].set(leaf) for name, leaf in of_shown.items()}
    return jax.tree.map(
        lambda leaf: jnp.where(active, leaf, jnp.zeros_like(leaf)),
        Trace(is_masked=is_masked, record=decision.record, **whole),
    )


def places_shown(
    row: RowState, policy: Policy, config: SamplerConfig, everything: bool
) -> Positions:
    """The positions of the window that a policy is shown, and of which logits are computed: the
    current block, unless the policy looks beyond it, or everything is asked for.
    """
    length, size = len(row.window), config.block_length
    if everything or not shows_block_alone(policy, config):
        return jnp.arange(length)
    return jnp.minimum(row.block * size, length - size) + jnp.arange(size)


def shows_block_alone(policy: Policy, config: SamplerConfig) -> bool:
    """Whether there are blocks, and a policy that looks no further than the current one.

    Guidance tells the response by the positions that are asked for, so it asks for all of them.
    """
    blocks = config.block_length is not None and not config.guidance
    return blocks and not getattr(policy, "wants_window", True)


def wants_hidden(policy: Policy) -> bool:
    """Whether the policy looks at the denoiser's hidden states."""
    return getattr(policy, "wants_hidden", False)


def wants_verifier(policy: Policy) -> bool:
    """Whether the policy asks the denoiser to judge the tokens that it has revealed."""
    return getattr(policy, "wants_verifier", False)
