"""The sampler: the loop that joins a denoiser and a policy. It only sees functions."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from mdm_jax.denoisers.base import Denoise, DenoiseCached, DenoiseHidden, DenoiseVerifier
from mdm_jax.denoisers.guidance import Guided
from mdm_jax.policies.base import Policy, log_prob
from mdm_jax.sampling.cached_loop import sample_in_rounds
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.step import (
    Outputs,
    Positions,
    RowContext,
    RowState,
    apply_logit_mask,
    enter_block,
    finish,
    places_shown,
    prepare,
    reveal_step,
    shows_block_alone,
    wants_hidden,
    wants_verifier,
)
from mdm_jax.types import Count, Rollout, RowKey, Tokens, Trace

Step = Callable[..., tuple[RowState, Trace | None]]


def denoise_step(
    key: RowKey,
    row: RowState,
    context: RowContext,
    step: Count,
    *,
    denoise: Denoise,
    policy: Policy,
    config: SamplerConfig,
    last: bool = False,
) -> tuple[RowState, Trace | None]:
    """One denoiser call and one decision for one sequence; a finished one comes back unchanged.

    Args:
      last: whether all that is left is to be revealed now, so that all of it has to be looked at.
    """
    row = enter_block(row, config)
    shown = places_shown(row, policy, config, everything=last)
    if wants_verifier(policy):
        outputs = _call_with_verifier(denoise, row, context, config)
    else:
        outputs = _call(denoise, wants_hidden(policy), row, context, shown, config)
    return reveal_step(key, row, context, step, outputs, shown, policy=policy, config=config)


def _call(
    denoise: Denoise,
    hidden_too: bool,
    row: RowState,
    context: RowContext,
    shown: Positions,
    config: SamplerConfig,
) -> Outputs:
    """What the denoiser says of some positions of the window; no unembedding elsewhere."""
    positions = None if len(shown) == len(context.canvas) else context.start + shown
    asked = finish(row, context), context.canvas != config.pad_id, positions
    logits, hidden = denoise.with_hidden(*asked) if hidden_too else (denoise(*asked), None)
    return Outputs(apply_logit_mask(logits, config), hidden)


def _call_with_verifier(
    denoise: DenoiseVerifier, row: RowState, context: RowContext, config: SamplerConfig
) -> Outputs:
    """What the denoiser says of the window, and what it makes of the tokens in the current block."""
    window = jnp.arange(len(row.window))
    size = config.block_length or len(window)
    block = jnp.minimum(row.block * size, len(window) - size) + jnp.arange(size)
    asked = finish(row, context), context.canvas != config.pad_id
    wanted, again = context.start + window, context.start + block
    logits, judged = denoise.with_verifier_logits(*asked, wanted, again, config.mask_id)
    shown = row.window[block]
    probs = jnp.exp(log_prob(apply_logit_mask(judged, config), shown))
    is_shown = shown != config.mask_id
    verifier_prob = jnp.ones(len(window)).at[block].set(jnp.where(is_shown, probs, 1.0))
    return Outputs(apply_logit_mask(logits, config), None, verifier_prob)


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
    is selected per row. Logits are computed of the current block alone where the policy looks no
    further (its `wants_window` is False).

    Args:
      keys: one per row; keys[i] = fold_in(key, index of example i) makes a row's result its own.
      canvases: [batch, length].
      denoise, policy: callable pytrees (wrap a bare function in `jax.tree_util.Partial`). A policy
        whose `wants_hidden` is True finds the hidden states of a `DenoiseHidden` in what it observes,
        one whose `wants_verifier` is True what a `DenoiseVerifier` makes of the revealed tokens.
      config: the loop's settings.

    Returns:
      Rollout with a leading batch axis.

    Raises:
      ValueError: `gen_length` longer than the canvas, `block_length` does not divide, a policy wants
        hidden states or a second look that the denoiser does not give, or a `Guided` denoiser with
        blocks, instead of `config.guidance`.
    """
    config.check(canvases.shape[1])
    if isinstance(denoise, Guided) and shows_block_alone(policy, config):
        raise ValueError(
            "a Guided denoiser has to be asked for the whole response, and this policy looks at a "
            "block alone: give the denoiser itself, and SamplerConfig.guidance"
        )
    if config.guidance:
        denoise = Guided(denoise, config.guidance, config.mask_id)
    _check_denoiser(denoise, policy, config)
    rows, context = jax.vmap(lambda canvas: prepare(canvas, policy, config))(canvases)
    step_one = partial(denoise_step, denoise=denoise, policy=policy, config=config)
    seen = jax.eval_shape(_all_rows(step_one), keys, rows, context, jnp.zeros((), jnp.int32))[1]
    trace = jax.tree.map(lambda leaf: jnp.zeros((config.budget, *leaf.shape), leaf.dtype), seen)
    if config.cache is None:
        rows, trace = _sample_in_steps(step_one, keys, rows, context, trace, policy, config)
    else:
        rows, trace = sample_in_rounds(
            keys, rows, context, trace, denoise=denoise, policy=policy, config=config
        )
    trace = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), trace)
    return Rollout(jax.vmap(finish)(rows, context), rows.nfe, trace, rows.revealed_at)


def _all_rows(step_one: Step) -> Step:
    """The step of one row as that of all; they share its number."""
    return jax.vmap(step_one, in_axes=(0, 0, 0, None))


def _sample_in_steps(
    step_one: Step,
    keys: Key[Array, " batch"],
    rows: RowState,
    context: RowContext,
    trace: Trace | None,
    policy: Policy,
    config: SamplerConfig,
) -> tuple[RowState, Trace | None]:
    """Step all rows while any has something masked and the budget lasts.

    The last permitted step reveals all that is left, so it looks at all of it; where the others look
    at a block alone it is compiled apart.
    """

    def repeat(step_all: Step, carry: tuple, most: int) -> tuple:
        def running(carry: tuple) -> Bool[Array, ""]:
            step, rows, _ = carry
            return (step < most) & jnp.any(rows.window == config.mask_id)

        def advance(carry: tuple) -> tuple:
            step, rows, trace = carry
            rows, now = step_all(keys, rows, context, step)
            return step + 1, rows, jax.tree.map(lambda all_, x: all_.at[step].set(x), trace, now)

        return jax.lax.while_loop(running, advance, carry)

    apart = config.commit and shows_block_alone(policy, config)
    carry = jnp.zeros((), jnp.int32), rows, trace
    carry = repeat(_all_rows(step_one), carry, config.budget - apart)
    if apart:
        carry = repeat(_all_rows(partial(step_one, last=True)), carry, config.budget)
    return carry[1:]


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


def _check_denoiser(denoise: Denoise, policy: Policy, config: SamplerConfig) -> None:
    """Raise ValueError if the denoiser lacks what policy or cache want of it."""
    if wants_hidden(policy) and not isinstance(denoise, DenoiseHidden):
        raise ValueError(
            f"{type(policy).__name__} wants hidden states, but the denoiser "
            f"{type(denoise).__name__} gives none: it has no method with_hidden"
        )
    if wants_verifier(policy) and not isinstance(denoise, DenoiseVerifier):
        raise ValueError(
            f"{type(policy).__name__} wants a second look at tokens, but the denoiser "
            f"{type(denoise).__name__} takes none: it has no method with_verifier_logits"
        )
    if wants_verifier(policy) and (wants_hidden(policy) or config.cache is not None):
        raise ValueError(
            f"{type(policy).__name__} wants a second look at tokens, which goes with neither hidden "
            "states nor a cache"
        )
    if config.cache is not None and not isinstance(denoise, DenoiseCached):
        raise ValueError(
            f"the denoiser {type(denoise).__name__} keeps no cache: it has no methods prefill, extend "
            "and read; sample with cache None"
        )
