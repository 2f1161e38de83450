"""The denoiser call of one step: its outputs at the positions that the policy is shown."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mdm_jax.denoisers.base import Denoise, DenoiseTimed, KVCache
from mdm_jax.policies.base import (
    Clock,
    Policy,
    Scores,
    log_prob,
    time_of,
    wants_dependence,
    wants_hidden,
    wants_verifier,
)
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.rows import (
    Positions,
    RowContext,
    RowState,
    Sampler,
    block_positions,
    clock_of,
    whole_canvas,
)
from mdm_jax.sampling.tokens import mask_logits
from mdm_jax.types import Logits, Mask, Tokens


class Outputs(NamedTuple):
    """What the denoiser predicts at `positions` of the window; `length` is their number."""

    positions: Positions
    logits: Logits  # float32; ids that are never produced are -inf
    hidden: Float[Array, "length features"] | None = None
    verifier_prob: Scores | None = None  # see `Observation`
    dependence: Float[Array, "length length"] | None = None


def call_denoiser(
    sampler: Sampler, row: RowState, context: RowContext, positions: Positions
) -> Outputs:
    """One denoiser call on the row's canvas, with what the policy asks for."""
    if wants_verifier(sampler.policy):
        return _call_with_verifier(sampler, row, context)
    denoise, config = sampler.denoise, sampler.config
    denoise = at_time(denoise, sampler.policy, clock_of(row, context))
    wanted = None if len(positions) == len(context.canvas) else context.start + positions
    arguments = whole_canvas(row, context), context.canvas != config.pad_id, wanted
    if wants_dependence(sampler.policy):
        logits, dependence = denoise.with_dependence(*arguments)
        return Outputs(positions, apply_logit_mask(logits, config), dependence=dependence)
    if wants_hidden(sampler.policy):
        logits, hidden = denoise.with_hidden(*arguments)
    else:
        logits, hidden = denoise(*arguments), None
    return Outputs(positions, apply_logit_mask(logits, config), hidden)


def _call_with_verifier(sampler: Sampler, row: RowState, context: RowContext) -> Outputs:
    """Outputs at the whole window, with the verifier's probabilities of the current block."""
    config, window = sampler.config, jnp.arange(len(row.window), dtype=jnp.int32)
    block = block_positions(row, config)
    logits, verifier_logits = sampler.denoise.with_verifier_logits(
        whole_canvas(row, context),
        context.canvas != config.pad_id,
        context.start + window,
        context.start + block,
        config.mask_id,
    )
    tokens = row.window[block]
    probs = jnp.exp(log_prob(apply_logit_mask(verifier_logits, config), tokens))
    is_revealed = tokens != config.mask_id
    ones = jnp.ones(len(window), jnp.float32)
    verifier_prob = ones.at[block].set(jnp.where(is_revealed, probs, 1.0))
    return Outputs(window, apply_logit_mask(logits, config), None, verifier_prob)


def at_time(denoise: Denoise, policy: Policy, clock: Clock) -> Denoise:
    """The denoiser of this step: another at every time, where it depends on that."""
    return denoise.at(time_of(policy, clock)) if isinstance(denoise, DenoiseTimed) else denoise


def look_ahead(
    sampler: Sampler, row: RowState, context: RowContext, proposal: Tokens
) -> Callable[[Bool[Array, "branches length"]], Float[Array, "branches length vocab"]]:
    """What the denoiser would say after other reveals: see `Observation.lookahead`."""
    length, valid = len(row.window), context.canvas != sampler.config.pad_id
    positions = context.start + jnp.arange(length, dtype=jnp.int32)
    wanted = None if length == len(context.canvas) else positions

    def branch(reveal: Mask) -> Logits:
        changed = row._replace(window=jnp.where(reveal, proposal, row.window))
        logits = sampler.denoise(whole_canvas(changed, context), valid, wanted)
        return apply_logit_mask(logits, sampler.config)

    return jax.vmap(branch)


def read_outputs(
    sampler: Sampler, context: RowContext, computed: KVCache, positions: Positions
) -> Outputs:
    """The outputs at some positions of the window, from what has been computed of the canvas."""
    logits, hidden = sampler.denoise.read(computed, context.start + positions)
    hidden = hidden if wants_hidden(sampler.policy) else None
    return Outputs(positions, apply_logit_mask(logits, sampler.config), hidden)


def apply_logit_mask(logits: Float[Array, "wanted vocab"], config: SamplerConfig) -> Logits:
    """float32 logits with the ids that are never produced at -inf."""
    never = (config.mask_id, config.pad_id, *config.unused, *config.forbid_ids)
    return mask_logits(logits.astype(jnp.float32), never)
