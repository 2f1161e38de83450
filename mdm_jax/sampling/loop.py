"""The sampler: the loop that joins a denoiser and a policy. It only sees functions."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from mdm_jax.denoisers.base import Denoise, DenoiseHidden
from mdm_jax.policies.base import Policy, confidence, entropy, margin
from mdm_jax.sampling.canvas import (
    block_ids,
    close_after_eos,
    count_blocks,
    current_block,
    response_start,
)
from mdm_jax.sampling.tokens import forbid, propose
from mdm_jax.types import (
    Count,
    Decision,
    Logits,
    Mask,
    Observation,
    Rollout,
    RowKey,
    Tokens,
    Trace,
)


@dataclass(frozen=True)
class SamplerConfig:
    """Settings of the loop; static, so each value is compiled once.

    Attributes:
      mask_id: the id of MASK; never produced.
      pad_id: the id of right padding, which nothing attends to; never produced.
      budget: most denoiser calls for one sequence; the last one commits all that is left.
      block_length: semi-autoregressive generation in blocks of this many positions, each row in its
        own; None: the whole canvas at once.
      gen_length: the response is this many positions from the first masked one, and the denoiser's
        unembedding and the policy see only those, so no mask may lie beyond; None: masks may be
        anywhere.
      temperature: of the token draw; 0 takes the argmax.
      top_p: share of probability that tokens are drawn from; 1 keeps all.
      eos_id: where given, whatever follows the first EOS of the response is EOS, at no cost.
      record: keep a `Trace`.
      commit: whether the last permitted step reveals all that is left.
    """

    mask_id: int
    pad_id: int
    budget: int
    block_length: int | None = None
    gen_length: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    eos_id: int | None = None
    record: bool = False
    commit: bool = True

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise ValueError(f"budget must be at least one denoiser call, got {self.budget}")
        if not self.temperature >= 0:
            raise ValueError(f"temperature must be >= 0, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")


class Row(NamedTuple):
    """What changes in one sequence from step to step; all arrays of the window [length]."""

    window: Tokens
    revealed_at: Tokens  # step of each position's last reveal, -1 before it
    nfe: Count
    block: Count  # the current block,
    block_step: Count  # denoiser calls already spent on it,
    block_masks: Count  # and how much of it was masked when it was entered
    state: Any  # the policy's memory


class Fixed(NamedTuple):
    """What stays as it was in one sequence."""

    canvas: Tokens  # whole canvas at the start
    start: Count  # where the window begins
    response: Mask  # window positions that are generated
    num_blocks: Count


def denoise_step(
    key: RowKey,
    row: Row,
    fixed: Fixed,
    step: Count,
    *,
    denoise: Denoise,
    policy: Policy,
    config: SamplerConfig,
) -> tuple[Row, Trace | None]:
    """One denoiser call and one decision for one sequence; a finished one comes back unchanged."""
    k_token, k_policy = jax.random.split(jax.random.fold_in(key, step))
    is_masked = row.window == config.mask_id
    row = _enter_block(row, is_masked, config)
    logits, hidden = _window_outputs(denoise, _wants_hidden(policy), row, fixed, config)
    observation = Observation(
        logits=logits,
        proposal=propose(k_token, logits, config.temperature, config.top_p),
        is_masked=is_masked,
        eligible=is_masked & (block_ids(len(is_masked), config.block_length) == row.block),
        step=step,
        budget=jnp.asarray(config.budget),
        block_step=row.block_step,
        block_masks=row.block_masks,
        num_blocks=fixed.num_blocks,
        hidden=hidden,
    )
    decision, state = policy(k_policy, observation, row.state)
    decision = _permitted(decision, observation, fixed, config)
    row = _apply(decision, observation, row, fixed, config)._replace(state=state)
    return row, _trace(observation, decision) if config.record else None


def _permitted(
    decision: Decision, observation: Observation, fixed: Fixed, config: SamplerConfig
) -> Decision:
    """The decision with what the rules add or take away: commit at the end, prompts stay."""
    is_masked = observation.is_masked
    last = config.commit & (observation.step == config.budget - 1)
    active = jnp.any(is_masked)  # a finished row stays finished while its neighbours go on
    unmask = jnp.where(last, is_masked, decision.unmask & observation.eligible)
    remask = decision.remask & fixed.response & ~is_masked & ~last & active
    return decision._replace(unmask=unmask, remask=remask)


def _apply(
    decision: Decision, observation: Observation, row: Row, fixed: Fixed, config: SamplerConfig
) -> Row:
    """Write tokens and masks, close what follows an EOS, and charge the step."""
    window = jnp.where(decision.unmask, observation.proposal, row.window)
    window = jnp.where(decision.remask, config.mask_id, window)
    if config.eos_id is not None:
        window = close_after_eos(window, fixed.response, config.mask_id, config.eos_id)
    shown_at = jnp.where(observation.is_masked, observation.step, row.revealed_at)
    spent = jnp.any(observation.is_masked).astype(jnp.int32)
    return row._replace(
        window=window,
        revealed_at=jnp.where(window == config.mask_id, -1, shown_at),
        nfe=row.nfe + spent,
        block_step=row.block_step + spent,
    )


def _enter_block(row: Row, is_masked: Mask, config: SamplerConfig) -> Row:
    """Start the counters of a new block where the last one was finished."""
    blocks = block_ids(is_masked.shape[0], config.block_length)
    block = current_block(is_masked, blocks)
    entered = block != row.block
    return row._replace(
        block=block,
        block_step=jnp.where(entered, 0, row.block_step),
        block_masks=jnp.where(entered, jnp.sum(is_masked & (blocks == block)), row.block_masks),
    )


def _window_outputs(
    denoise: Denoise, wants_hidden: bool, row: Row, fixed: Fixed, config: SamplerConfig
) -> tuple[Logits, Float[Array, "length features"] | None]:
    """float32 logits of the window, MASK and PAD ruled out, and hidden states where wanted.

    No unembedding outside the window.
    """
    valid = fixed.canvas != config.pad_id
    asked = (row.window, valid)
    if config.gen_length is not None:
        canvas = jax.lax.dynamic_update_slice(fixed.canvas, row.window, (fixed.start,))
        asked = (canvas, valid, fixed.start + jnp.arange(config.gen_length))
    logits, hidden = denoise.with_hidden(*asked) if wants_hidden else (denoise(*asked), None)
    return forbid(logits.astype(jnp.float32), (config.mask_id, config.pad_id)), hidden


def _wants_hidden(policy: Policy) -> bool:
    """Whether the policy looks at the denoiser's hidden states."""
    return getattr(policy, "wants_hidden", False)


def _trace(observation: Observation, decision: Decision) -> Trace:
    """The record of one step, all zero for a sequence that had finished."""
    logits, active = observation.logits, jnp.any(observation.is_masked)
    return jax.tree.map(
        lambda leaf: jnp.where(active, leaf, jnp.zeros_like(leaf)),
        Trace(
            unmask=decision.unmask,
            remask=decision.remask,
            is_masked=observation.is_masked,
            eligible=observation.eligible,
            proposal=observation.proposal,
            confidence=confidence(logits),
            margin=margin(logits),
            entropy=entropy(logits),
            record=decision.record,
        ),
    )


def _prepare(canvas: Tokens, policy: Policy, config: SamplerConfig) -> tuple[Row, Fixed]:
    """The first row state, and what never changes."""
    length = canvas.shape[0] if config.gen_length is None else config.gen_length
    # slicing clamps its start; the positions asked of the denoiser must be the same ones
    start = jnp.minimum(response_start(canvas, config.mask_id), canvas.shape[0] - length)
    window = jax.lax.dynamic_slice(canvas, (start,), (length,))
    response = window == config.mask_id
    blocks = block_ids(length, config.block_length)
    zero = jnp.zeros((), jnp.int32)
    never = jnp.full((length,), -1)
    row = Row(window, never, zero, zero - 1, zero, zero, policy.init(length))
    return row, Fixed(canvas, start, response, count_blocks(response, blocks))


def sample_one(
    key: RowKey, canvas: Tokens, *, denoise: Denoise, policy: Policy, config: SamplerConfig
) -> Rollout:
    """Complete one canvas: `sample` for a single sequence, with its own key.

    Args:
      key: the sequence's key; step s uses fold_in(key, s).
      canvas: [length] ids, MASK where tokens are wanted, PAD on the right where there is nothing.
      denoise: callable pytree, see `Denoise`.
      policy: callable pytree, see `Policy`.
      config: the loop's settings.

    Returns:
      Rollout: the finished canvas [length], its denoiser calls, its trace [budget, window].
    """
    rollout = sample(key[None], canvas[None], denoise=denoise, policy=policy, config=config)
    return jax.tree.map(lambda leaf: leaf[0], rollout)


@partial(jax.jit, static_argnames="config")
def sample(
    keys: Key[Array, " batch"],
    canvases: Int[Array, "batch length"],
    *,
    denoise: Denoise,
    policy: Policy,
    config: SamplerConfig,
) -> Rollout:
    """Complete a batch of canvases; a row never depends on its neighbours.

    One step for all rows, `vmap(denoise_step)`, is repeated while any row has something masked and
    the budget lasts. Rows share the step counter, so the trace is written in place and nothing large
    is selected per row.

    Args:
      keys: one per row; keys[i] = fold_in(key, index of example i) makes a row's result its own.
      canvases: [batch, length].
      denoise, policy: callable pytrees (wrap a bare function in `jax.tree_util.Partial`). A policy
        whose `wants_hidden` is True finds the hidden states of a `DenoiseHidden` in what it observes.
      config: the loop's settings.

    Returns:
      Rollout with a leading batch axis.

    Raises:
      ValueError: `gen_length` longer than the canvas, `block_length` does not divide, or a policy
        wants hidden states that the denoiser does not give.
    """
    check_window(config, canvases.shape[1])
    _check_hidden(denoise, policy)
    rows, fixed = jax.vmap(lambda canvas: _prepare(canvas, policy, config))(canvases)
    step_all = jax.vmap(
        partial(denoise_step, denoise=denoise, policy=policy, config=config),
        in_axes=(0, 0, 0, None),
    )
    step_shape = jax.eval_shape(step_all, keys, rows, fixed, jnp.zeros((), jnp.int32))[1]
    trace = jax.tree.map(
        lambda leaf: jnp.zeros((config.budget, *leaf.shape), leaf.dtype), step_shape
    )

    def running(carry: tuple) -> Bool[Array, ""]:
        step, rows, _ = carry
        return (step < config.budget) & jnp.any(rows.window == config.mask_id)

    def advance(carry: tuple) -> tuple:
        step, rows, trace = carry
        rows, seen = step_all(keys, rows, fixed, step)
        return step + 1, rows, jax.tree.map(lambda all_, now: all_.at[step].set(now), trace, seen)

    _, rows, trace = jax.lax.while_loop(running, advance, (jnp.zeros((), jnp.int32), rows, trace))
    trace = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), trace)
    return Rollout(jax.vmap(_finish)(rows, fixed), rows.nfe, trace, rows.revealed_at)


def _finish(row: Row, fixed: Fixed) -> Tokens:
    """The whole canvas with the window put back."""
    return jax.lax.dynamic_update_slice(fixed.canvas, row.window, (fixed.start,))


def sweep(
    keys: Key[Array, " batch"],
    canvases: Int[Array, "batch length"],
    *,
    denoise: Denoise,
    policies: Policy,
    config: SamplerConfig,
) -> Rollout:
    """`sample` under every knob setting of a stacked policy, as one compiled call.

    Args:
      policies: `policies.base.stack([...])`; its leaves carry the axis that is swept.

    Returns:
      Rollout with leading axes [settings, batch].
    """
    one = partial(sample, keys, canvases, denoise=denoise, config=config)
    return jax.vmap(lambda policy: one(policy=policy))(policies)


def check_window(config: SamplerConfig, length: int) -> None:
    """Raise ValueError unless the response and its blocks fit a canvas of `length` positions."""
    if config.gen_length is not None and not 1 <= config.gen_length <= length:
        raise ValueError(f"gen_length {config.gen_length} does not fit a canvas of {length}")
    block_ids(config.gen_length or length, config.block_length)


def _check_hidden(denoise: Denoise, policy: Policy) -> None:
    """Raise ValueError if the policy wants hidden states and the denoiser has none."""
    if _wants_hidden(policy) and not isinstance(denoise, DenoiseHidden):
        raise ValueError(
            f"{type(policy).__name__} wants hidden states, but the denoiser "
            f"{type(denoise).__name__} gives none: it has no method with_hidden"
        )
