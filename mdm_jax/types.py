"""Array aliases, and the few records that cross the boundary between denoiser, policy and sampler."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

Tokens = Int[Array, " length"]
Mask = Bool[Array, " length"]
Logits = Float[Array, "length vocab"]
RowKey = Key[Array, ""]
Scalar = Float[Array, ""]
Count = Int[Array, ""]


class Observation(NamedTuple):
    """All that a policy may use: one step of one sequence.

    `length` is the number of positions that the policy is shown: the window that the sampler works on
    (the whole canvas, or the response when `gen_length` is set), or only the current block, when there
    are blocks and the policy's `wants_window` is False.
    """

    logits: Float[Array, "length vocab"]  # float32; ids that may not be produced are -inf
    proposal: Int[Array, " length"]  # the token each position would take if revealed now
    is_masked: Bool[Array, " length"]
    eligible: Bool[Array, " length"]  # masked, and inside the current block
    step: Int[Array, ""]  # denoiser calls already spent on this sequence
    budget: Int[Array, ""]  # most denoiser calls it may spend
    block_step: Int[Array, ""]  # denoiser calls already spent on the current block
    block_masks: Int[Array, ""]  # masked positions of the current block when it was entered
    num_blocks: Int[Array, ""]  # blocks with a masked position at the start (1: full diffusion)
    # the denoiser's last hidden states; None unless the policy's `wants_hidden` is True
    hidden: Float[Array, "length features"] | None = None
    # p(revealed token | the rest of the canvas): the probability that the denoiser gives to the token
    # at each revealed position of the current block when that token is hidden from it; 1 at all other
    # positions. None unless the policy's `wants_verifier` is True
    verifier_prob: Float[Array, " length"] | None = None
    # how much each position (row) depends on each other one: attention, or exact where it is known; see
    # `DenoiseDependence`. None unless the policy's `wants_dependence` is True
    dependence: Float[Array, "length length"] | None = None
    # [branches, length] bool -> [branches, length, vocab]: the logits that each branch would show, had it
    # revealed those positions with their proposed tokens; a denoiser call for each branch. None unless
    # the policy's `wants_lookahead` is True
    lookahead: Callable[[Array], Array] | None = None


class Decision(NamedTuple):
    """What a policy decides at one step."""

    unmask: Bool[Array, " length"]
    remask: Bool[Array, " length"]  # all False for policies that only reveal
    record: Any = None  # arrays that the policy wants in the trace
    extra_calls: Int[Array, ""] | np.int32 = np.int32(0)  # denoiser calls that its lookahead needed


class Trace(NamedTuple):
    """What happened at every step of one sequence; steps it did not need are all zero or False.

    `length` is that of the window. Where the policy was shown only a block, everything but `is_masked`
    is zero outside it.
    """

    unmask: Bool[Array, "budget length"]
    remask: Bool[Array, "budget length"]
    is_masked: Bool[Array, "budget length"]
    eligible: Bool[Array, "budget length"]
    proposal: Int[Array, "budget length"]
    confidence: Float[Array, "budget length"]
    margin: Float[Array, "budget length"]
    entropy: Float[Array, "budget length"]
    record: Any = None  # the policy's own arrays, with a leading axis [budget]


class Rollout(NamedTuple):
    """One generated sequence and what it cost."""

    canvas: Int[Array, " length"]
    nfe: Int[Array, ""]  # denoiser calls this sequence needed
    trace: Trace | None
    revealed_at: Int[Array, " window"]  # step of each position's last reveal; -1: not generated
    # forward passes that the batch executed: with a cache some rows wait for others, and a guided call
    # makes two
    passes: Int[Array, ""]
    finite: Bool[Array, ""]  # False: a masked position had logits that were NaN or infinite
