"""A policy followed along a clean sequence: it chooses the positions, the sequence gives the tokens.

A policy that does not look at proposed tokens makes, on the way to a sequence x, exactly one path
A_1, ..., A_n of sets of positions, and generates x with probability

  log p_policy(x | prompt) = sum_t sum_{i in A_t} log p(x_i | what is shown before t).

So its likelihood costs as many denoiser calls as generating x does.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.chunks import canvases_at_once
from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import apply_mask
from mdm_jax.diffusion.elbo import token_nll
from mdm_jax.errors import check_range
from mdm_jax.orders.variational.model import Sequence
from mdm_jax.sampling.canvas import block_ids, closed_by_eos, count_blocks, current_block
from mdm_jax.sampling.tokens import mask_logits
from mdm_jax.types import Count, Mask, Observation, Tokens


@dataclass(frozen=True)
class Forcing:
    """How clean sequences are walked along; the sampler's settings of the same names.

    Attributes:
      mask_id, pad_id: the two ids that are not tokens.
      budget: most denoiser calls; the last one reveals all that is left.
      window: the response is this many positions from the first maskable one; None: all positions.
      block_length: semi-autoregressive blocks of this many positions; None: none.
      eos_id: where given, what follows a revealed EOS is closed at no cost.
      clip: no token counts as less probable than exp(-clip).
    """

    mask_id: int
    pad_id: int
    budget: int
    window: int | None = None
    block_length: int | None = None
    eos_id: int | None = None
    clip: float = 12.0

    def __post_init__(self) -> None:
        check_range("budget", self.budget, 1)
        check_range("clip", self.clip, above=0)


def rows_at_once(length: int, forcing: Forcing, most: int) -> int:
    """Rows that the denoiser is called on together: `most`, or fewer where canvases are large."""
    return min(most, canvases_at_once(length, forcing.pad_id, forcing.window))


class State(NamedTuple):
    """How far a sequence is revealed, arrays of the response [window]."""

    is_masked: Mask
    calls: Count  # denoiser calls spent
    block: Count  # the current block,
    block_step: Count  # calls spent on it,
    block_masks: Count  # and how much of it was masked when it was entered


def response_positions(sequence: Sequence, forcing: Forcing) -> Int[Array, " window"]:
    """The canvas positions that are generated."""
    length = len(sequence.tokens)
    if forcing.window is None:
        return jnp.arange(length)
    start = jnp.minimum(jnp.argmax(sequence.maskable), length - forcing.window)
    return start + jnp.arange(forcing.window)


def start_state(sequence: Sequence, forcing: Forcing) -> State:
    """Everything of the response masked, no call made."""
    is_masked = sequence.maskable[response_positions(sequence, forcing)]
    zero = jnp.zeros((), jnp.int32)
    return enter_block(State(is_masked, zero, zero - 1, zero, zero), forcing)


def state_at(is_masked: Mask, calls: Count, forcing: Forcing) -> State:
    """The state in which this is masked after so many calls, its block just entered."""
    zero = jnp.zeros((), jnp.int32)
    return enter_block(State(is_masked, calls, zero - 1, zero, zero), forcing)


def enter_block(state: State, forcing: Forcing) -> State:
    """The state with the counters of a new block started where the last one was finished."""
    blocks = block_ids(len(state.is_masked), forcing.block_length)
    block = current_block(state.is_masked, blocks)
    entered, masks = (
        block != state.block,
        jnp.sum(state.is_masked & (blocks == block), dtype=jnp.int32),
    )
    return state._replace(
        block=block,
        block_step=jnp.where(entered, 0, state.block_step),
        block_masks=jnp.where(entered, masks, state.block_masks),
    )


def observe(
    sequence: Sequence, state: State, denoise: Denoise, forcing: Forcing
) -> tuple[Observation, Float[Array, " window"]]:
    """One denoiser call at a state of a clean sequence.

    Returns:
      What a policy is shown there (the sequence's own tokens as proposals), and log p(token) of each
      masked position, clipped, 0 elsewhere; nats.
    """
    positions = response_positions(sequence, forcing)
    whole = jnp.zeros(sequence.tokens.shape, bool).at[positions].set(state.is_masked)
    canvas = apply_mask(sequence.tokens, whole, forcing.mask_id)
    logits = denoise(canvas, sequence.tokens != forcing.pad_id, positions)
    logits = mask_logits(logits.astype(jnp.float32), (forcing.mask_id, forcing.pad_id))
    tokens = sequence.tokens[positions]
    log_prob = -token_nll(logits, jnp.where(state.is_masked, tokens, 0))
    blocks = block_ids(len(positions), forcing.block_length)
    observation = Observation(
        logits=logits,
        proposal=tokens,
        is_masked=state.is_masked,
        eligible=state.is_masked & (blocks == state.block),
        step=state.calls,
        budget=jnp.asarray(forcing.budget, jnp.int32),
        block_step=state.block_step,
        block_masks=state.block_masks,
        num_blocks=count_blocks(sequence.maskable[positions], blocks),
    )
    clipped = jnp.maximum(log_prob, -forcing.clip)
    return observation, jnp.where(state.is_masked, clipped, 0.0)


def reveal(state: State, unmask: Mask, sequence: Sequence, forcing: Forcing) -> tuple[State, Mask]:
    """The state after one call.

    Returns:
      The next state, and what was revealed in fact: everything, where this was the last call.
    """
    last = state.calls == forcing.budget - 1
    unmask = jnp.where(last, state.is_masked, unmask & state.is_masked)
    is_masked = state.is_masked & ~unmask
    if forcing.eos_id is not None:
        is_masked = _close(is_masked, sequence, forcing)
    after = state._replace(
        is_masked=is_masked, calls=state.calls + 1, block_step=state.block_step + 1
    )
    return enter_block(after, forcing), unmask


def _close(is_masked: Mask, sequence: Sequence, forcing: Forcing) -> Mask:
    """What stays masked once everything after a revealed EOS of the response is closed."""
    positions = response_positions(sequence, forcing)
    tokens: Tokens = apply_mask(sequence.tokens[positions], is_masked, forcing.mask_id)
    response = sequence.maskable[positions]
    return is_masked & ~closed_by_eos(tokens, response, forcing.mask_id, forcing.eos_id)


def is_running(state: State) -> Bool[Array, ""]:
    """Whether anything is still masked."""
    return jnp.any(state.is_masked)
