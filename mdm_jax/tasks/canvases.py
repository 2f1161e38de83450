"""Canvases of prompts and answers: prompt, response window, PAD; and how they are displayed."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Int

from mdm_jax.tasks.base import Batch, Vocabulary
from mdm_jax.tasks.splits import batch_rng

TokenIds = Sequence[int]


class Clean(NamedTuple):
    """Clean canvases of the pairs that fit, and how many did not."""

    tokens: Int[np.ndarray, "n length"]
    maskable: Bool[np.ndarray, "n length"]
    dropped: int


def prompt_canvases(
    prompts: Sequence[TokenIds], prompt_length: int, gen_length: int, vocabulary: Vocabulary
) -> Int[np.ndarray, "n length"]:
    """Each prompt, `gen_length` masks, then PAD; of a prompt that is too long the end is kept."""
    shape = len(prompts), prompt_length + gen_length
    canvases = np.full(shape, vocabulary.pad_id, np.int32)
    for row, prompt in zip(canvases, prompts, strict=True):
        prompt = prompt[-prompt_length:]
        row[: len(prompt)] = prompt
        row[len(prompt) : len(prompt) + gen_length] = vocabulary.mask_id
    return canvases


def clean_canvases(
    pairs: Sequence[tuple[TokenIds, TokenIds]],
    prompt_length: int,
    gen_length: int,
    vocabulary: Vocabulary,
    *,
    count_padding: bool = True,
) -> Clean:
    """Each prompt, its answer, EOS to the end of the response window, then PAD.

    Pairs whose prompt exceeds `prompt_length`, or whose answer leaves no room for an EOS, are
    dropped. With `count_padding` False only the first EOS is maskable.
    """
    kept = [(p, a) for p, a in pairs if len(p) <= prompt_length and len(a) < gen_length]
    tokens = np.full((len(kept), prompt_length + gen_length), vocabulary.pad_id, np.int32)
    maskable = np.zeros(tokens.shape, bool)
    for row, (prompt, answer) in enumerate(kept):
        start, end = len(prompt), len(prompt) + gen_length
        tokens[row, :end] = vocabulary.eos_id
        tokens[row, : start + len(answer)] = [*prompt, *answer]
        maskable[row, start : end if count_padding else start + len(answer) + 1] = True
    return Clean(tokens=tokens, maskable=maskable, dropped=len(pairs) - len(kept))


def epoch_batch(data: Clean, seed: int, step: int, size: int) -> Batch:
    """Batch `step` of epochs that see every row once, in an order drawn from (seed, epoch)."""
    n = len(data.tokens)
    epochs, places = np.divmod(np.arange(step * size, (step + 1) * size), n)
    orders = {epoch: batch_rng(seed, int(epoch)).permutation(n) for epoch in np.unique(epochs)}
    rows = [orders[epoch][place] for epoch, place in zip(epochs, places, strict=True)]
    return Batch(tokens=data.tokens[rows], maskable=data.maskable[rows])


def response_ids(
    canvas: Int[Array | np.ndarray, " length"], start: int, gen_length: int, vocabulary: Vocabulary
) -> list[int]:
    """The ids of the response before the first that ends it."""
    response = np.asarray(canvas)[start : start + gen_length]
    ends = np.flatnonzero(np.isin(response, vocabulary.ends))
    return response[: ends[0] if len(ends) else None].tolist()


def show(
    ids: TokenIds, mark: Callable[[int], str | None], decode: Callable[[list[int]], str]
) -> str:
    """Ids as text for display: `mark` gives a sign for some (one for a run of them, but every `▁`),
    and the others are decoded run by run.
    """
    shown = ""
    for sign, run in itertools.groupby(ids, mark):
        same = list(run)
        shown += decode(same) if sign is None else sign * (len(same) if sign == "▁" else 1)
    return shown
