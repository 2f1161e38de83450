"""The sampler: the loop that joins a denoiser and a policy. It only sees functions."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from mdm_jax.chunks import canvases_at_once, map_rows
from mdm_jax.denoisers.base import Denoise
from mdm_jax.denoisers.guidance import Guided, passes_per_call
from mdm_jax.errors import MdmError
from mdm_jax.policies.base import Policy
from mdm_jax.sampling.cached_loop import sample_cached
from mdm_jax.sampling.checks import check_denoiser
from mdm_jax.sampling.commit import last_step
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.rows import (
    RowContext,
    RowState,
    Sampler,
    prepare,
    shows_block_only,
    whole_canvas,
)
from mdm_jax.sampling.step import denoise_step
from mdm_jax.types import Count, Rollout, RowKey, Tokens, Trace

BUSY = 512  # canvases that keep a device busy
StepAll = Callable[[RowState, RowContext, Count], tuple[RowState, Trace | None]]
Carry = tuple[Count, RowState, Trace | None]  # step, rows, trace [budget, batch, ...]


def sample_one(
    key: RowKey, canvas: Tokens, *, denoise: Denoise, policy: Policy, config: SamplerConfig
) -> Rollout:
    """Complete one canvas: `sample` for a single sequence, with its own key.

    Args:
      key: the sequence's key; step s uses fold_in(key, s).
      canvas: [length] ids, MASK where tokens are wanted, PAD on the right as filling.
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
    """Complete a batch of canvases; a row never depends on the other rows.

    One step of all rows, `vmap(denoise_step)`, is repeated while any row has a masked position and
    the budget lasts. Rows share the step counter, so the trace is written in place and nothing large
    is selected per row. If the policy's `wants_window` is False, logits are computed only of the
    current block.

    Args:
      keys: one per row; keys[i] = fold_in(key, index of example i) makes a row's result its own.
      canvases: [batch, length].
      denoise, policy: callable pytrees (wrap a bare function in `jax.tree_util.Partial`). A policy
        whose `wants_hidden` is True needs a `DenoiseHidden`, one whose `wants_verifier` is True a
        `DenoiseVerifier`.
      config: the loop's settings.

    Returns:
      Rollout with a leading batch axis.

    Raises:
      MdmError: `gen_length` longer than the canvas, a `block_length` that does not divide, a policy
        that wants hidden states or verifier logits that the denoiser does not give, or a `Guided`
        denoiser with blocks, instead of `config.guidance`.
    """
    sampler, rows, context = prepared(Sampler(denoise, policy, config), keys, canvases)
    trace = _blank_trace(sampler, rows, context)
    run = _sample_uncached if config.cache is None else sample_cached
    calls, rows, trace = run(sampler, rows, context, trace)
    trace = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), trace)
    calls = jnp.maximum(calls, jnp.max(rows.nfe))  # a policy's own calls included
    passes = jnp.broadcast_to(calls * passes_per_call(sampler.denoise), rows.nfe.shape)
    canvases = jax.vmap(whole_canvas)(rows, context)
    return Rollout(canvases, rows.nfe, trace, rows.revealed_at, passes, rows.finite)


@partial(jax.jit, static_argnames="config")
def sweep(
    keys: Key[Array, " batch"],
    canvases: Int[Array, "batch length"],
    *,
    denoise: Denoise,
    policies: Policy,
    config: SamplerConfig,
) -> Rollout:
    """`sample` under every knob setting of a stacked policy, as one compiled call.

    Settings come one after another, each for as long as its slowest row takes; where the batch is small,
    some share their calls.

    Args:
      policies: `policies.base.stack([...])`; its leaves carry the axis that is swept.

    Returns:
      Rollout with leading axes [settings, batch].
    """
    one = partial(sample, keys, canvases, denoise=denoise, config=config)
    ids = config.pad_id if config.pad_id is not None else 0  # `sample` says what is missing
    at_once = min(canvases_at_once(canvases.shape[1], ids, config.gen_length), BUSY)
    return map_rows(lambda policy: one(policy=policy), policies, max(at_once // len(canvases), 1))


def prepared(
    sampler: Sampler, keys: Key[Array, " batch"], canvases: Int[Array, "batch length"]
) -> tuple[Sampler, RowState, RowContext]:
    """The sampler as it is run, and all rows before their first step; see `sample` for errors."""
    sampler.config.check(canvases.shape[1])
    sampler = with_guidance(sampler)
    check_denoiser(sampler)
    return sampler, *jax.vmap(partial(prepare, sampler))(keys, canvases.astype(jnp.int32))


def with_guidance(sampler: Sampler) -> Sampler:
    """The denoiser replaced by its guided version where `config.guidance` is set."""
    denoise, config = sampler.denoise, sampler.config
    if isinstance(denoise, Guided) and shows_block_only(sampler):
        raise MdmError(
            "a Guided denoiser needs the logits of the whole response, and this policy looks only at "
            "the current block: pass the unguided denoiser, and SamplerConfig.guidance"
        )
    if not config.guidance:
        return sampler
    place = config.condition, config.response
    guided = Guided(denoise, config.guidance, config.mask_id, config.guidance_grows, *place)
    return sampler._replace(denoise=guided)


def _step_all(sampler: Sampler, step: Callable = denoise_step) -> StepAll:
    """A step of all rows, which share the step counter."""
    return jax.vmap(partial(step, sampler), in_axes=(0, 0, None))


def _blank_trace(sampler: Sampler, rows: RowState, context: RowContext) -> Trace | None:
    """Zeros for the entries of all steps, [budget, batch, ...]; None unless `config.record`."""
    if not sampler.config.record:  # known without tracing a step
        return None
    entry = jax.eval_shape(_step_all(sampler), rows, context, jnp.zeros((), jnp.int32))[1]
    budget = sampler.config.budget
    return jax.tree.map(lambda leaf: jnp.zeros((budget, *leaf.shape), leaf.dtype), entry)


def _sample_uncached(
    sampler: Sampler, rows: RowState, context: RowContext, trace: Trace | None
) -> Carry:
    """Complete all rows, every step computing the whole canvas anew.

    The last permitted step reveals all that is masked, so it needs logits of the whole window; where
    the other steps compute a block's it is compiled as a program of its own.
    """
    config = sampler.config
    separate = config.commit and shows_block_only(sampler)
    carry = jnp.zeros((), jnp.int32), rows, trace
    carry = _repeat(_step_all(sampler), context, carry, config.budget - separate, config.mask_id)
    if separate:
        step_all = _step_all(sampler, last_step)
        carry = _repeat(step_all, context, carry, config.budget, config.mask_id)
    return carry


def _repeat(
    step_all: StepAll, context: RowContext, carry: Carry, budget: int, mask_id: int
) -> Carry:
    """Step all rows while any has a masked position, up to step number `budget`."""

    def running(carry: Carry) -> Bool[Array, ""]:
        step, rows, _ = carry
        return (step < budget) & jnp.any(rows.window == mask_id)

    def advance(carry: Carry) -> Carry:
        step, rows, trace = carry
        rows, entry = step_all(rows, context, step)
        trace = jax.tree.map(lambda all_, one: all_.at[step].set(one), trace, entry)
        return step + 1, rows, trace

    return jax.lax.while_loop(running, advance, carry)
