"""One step of one sequence: from a denoiser's logits to a changed row."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

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
from mdm_jax.sampling.tokens import draw_logits, forbid, propose, silence
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

Places = Int[Array, " shown"]  # positions of the window


@dataclass(frozen=True)
class CacheConfig:
    """Keys and values are kept from one denoiser call to the next (Fast-dLLM, arXiv:2505.22618).

    Attributes:
      kind: what is computed anew in between. "prefix": from the current block to the end of the
        response; "dual": the current block alone.
      refresh: calls after which everything is computed anew, counted inside each block, whose first
        call is always full; 1 is sampling without a cache. None: only at the start of a block.
    """

    kind: Literal["prefix", "dual"] = "dual"
    refresh: int | None = None

    def __post_init__(self) -> None:
        if self.refresh is not None and self.refresh < 1:
            raise ValueError(f"refresh must be at least 1, got {self.refresh}")


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
      top_k: number of tokens at each position that are drawn from; None keeps all.
      policy_sees_draw: policies see the distribution that tokens are drawn from, after temperature,
        top_p and top_k (Dream), instead of the denoiser's own (LLaDA).
      forbid_ids: further ids that are never produced; with EOS, LLaDA's `logits_eos_inf`.
      late_ids: positions that would take one of these come last, whatever the policy; with EOS and
        the end of turn, LLaDA's `confidence_eos_eot_inf`.
      guidance: weight of classifier-free guidance, see `Guided`; needs a gen_length; 0: none.
      eos_id: where given, whatever follows the first EOS of the response is EOS, at no cost.
      unused: further ids that are never produced, such as rows beyond a tokenizer.
      cache: between full calls of the denoiser, compute only part of the canvas anew; None: never.
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
    top_k: int | None = None
    policy_sees_draw: bool = False
    forbid_ids: tuple[int, ...] = ()
    late_ids: tuple[int, ...] = ()
    guidance: float = 0.0
    eos_id: int | None = None
    unused: tuple[int, ...] = ()
    cache: CacheConfig | None = None
    record: bool = False
    commit: bool = True

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise ValueError(f"budget must be at least one denoiser call, got {self.budget}")
        if not self.temperature >= 0:
            raise ValueError(f"temperature must be >= 0, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}; None keeps all tokens")
        if self.guidance and self.gen_length is None:
            raise ValueError(f"guidance {self.guidance} masks the prompt: it needs a gen_length")


class Row(NamedTuple):
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
    second_look: Scores | None = None  # where the policy wants it: see `Observation`


class Fixed(NamedTuple):
    """What stays as it was in one sequence."""

    canvas: Tokens  # whole canvas at the start
    start: Count  # where the window begins
    response: Mask  # window positions that are generated
    num_blocks: Count


def prepare(canvas: Tokens, policy: Policy, config: SamplerConfig) -> tuple[Row, Fixed]:
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


def finish(row: Row, fixed: Fixed) -> Tokens:
    """The whole canvas with the window put back."""
    return jax.lax.dynamic_update_slice(fixed.canvas, row.window, (fixed.start,))


def ruled_out(logits: Float[Array, "wanted vocab"], config: SamplerConfig) -> Logits:
    """float32 logits with everything that is never produced at -inf."""
    never = (config.mask_id, config.pad_id, *config.unused, *config.forbid_ids)
    return forbid(logits.astype(jnp.float32), never)


def reveal_step(
    key: RowKey,
    row: Row,
    fixed: Fixed,
    step: Count,
    outputs: Outputs,
    here: Places,
    *,
    policy: Policy,
    config: SamplerConfig,
) -> tuple[Row, Trace | None]:
    """What the policy makes of a denoiser's outputs; a finished row comes back unchanged.

    The row must have entered its block.

    Args:
      here: the positions of the window that the outputs speak of, all that the policy is shown.
    """
    k_token, k_policy = jax.random.split(jax.random.fold_in(key, step))
    is_masked = row.window[here] == config.mask_id
    logits, length = outputs.logits, len(row.window)
    among = None if len(here) == length else (here, length)
    drawn = config.temperature, config.top_p, config.top_k
    proposal = propose(k_token, logits, *drawn, among)
    observation = Observation(
        logits=_shown(logits, proposal, config),
        proposal=proposal,
        is_masked=is_masked,
        eligible=is_masked & (block_ids(length, config.block_length)[here] == row.block),
        step=step,
        budget=jnp.asarray(config.budget),
        block_step=row.block_step,
        block_masks=row.block_masks,
        num_blocks=fixed.num_blocks,
        hidden=outputs.hidden,
        second_look=outputs.second_look,
    )
    decision, state = policy(k_policy, observation, row.state)
    decision = _permitted(decision, observation, fixed.response[here], config)
    after = _apply(decision, observation, row, fixed, here, config)._replace(state=state)
    return after, _trace(observation, decision, row, here, config) if config.record else None


def _shown(logits: Logits, proposal: Tokens, config: SamplerConfig) -> Logits:
    """The logits that the policy sees."""
    if config.policy_sees_draw:
        logits = draw_logits(logits, config.temperature, config.top_p, config.top_k)
    return silence(logits, proposal, config.late_ids)


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
    row: Row,
    fixed: Fixed,
    here: Places,
    config: SamplerConfig,
) -> Row:
    """Write tokens and masks, close what follows an EOS, and charge the step."""
    was_masked = row.window == config.mask_id
    shown = jnp.where(decision.unmask, observation.proposal, row.window[here])
    window = row.window.at[here].set(jnp.where(decision.remask, config.mask_id, shown))
    if config.eos_id is not None:
        window = close_after_eos(window, fixed.response, config.mask_id, config.eos_id)
    shown_at = jnp.where(was_masked, observation.step, row.revealed_at)
    spent = jnp.any(was_masked).astype(jnp.int32)
    return row._replace(
        window=window,
        revealed_at=jnp.where(window == config.mask_id, -1, shown_at),
        nfe=row.nfe + spent,
        block_step=row.block_step + spent,
    )


def enter_block(row: Row, config: SamplerConfig) -> Row:
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
    observation: Observation, decision: Decision, row: Row, here: Places, config: SamplerConfig
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
    whole = {name: blank(leaf).at[here].set(leaf) for name, leaf in of_shown.items()}
    return jax.tree.map(
        lambda leaf: jnp.where(active, leaf, jnp.zeros_like(leaf)),
        Trace(is_masked=is_masked, record=decision.record, **whole),
    )


def places_shown(row: Row, policy: Policy, config: SamplerConfig, everything: bool) -> Places:
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


def wants_second_look(policy: Policy) -> bool:
    """Whether the policy asks the denoiser to judge the tokens that it has revealed."""
    return getattr(policy, "wants_second_look", False)
