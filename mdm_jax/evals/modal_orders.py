"""Canvases of several modalities: fixed orders between them, and which call reveals what of each."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from mdm_jax.evals.evaluator import Evaluator
from mdm_jax.evals.score import Outcome
from mdm_jax.policies.given_order import GivenOrder
from mdm_jax.streams import Span, Stream
from mdm_jax.tasks.base import stream_of

FIRST_CALLS, REST_CALLS = (1, 2, 3), (1, 2)  # of the modality that comes first, and of the others
SHOWN_CALLS = 4  # in a table; what later calls reveal is added up
_LEAST = 0.05  # positions that are worth a number


class Turn(NamedTuple):
    """Modalities that are revealed together, in so many calls."""

    modalities: tuple[str, ...]
    calls: int


def middle_out(length: int) -> list[int]:
    """Positions by halving gaps: the middle, then the middles of both sides, and so on."""
    found, gaps = [], [(0, length)]
    while gaps:
        low, high = gaps.pop(0)
        if low < high:
            middle = (low + high) // 2
            found.append(middle)
            gaps += [(low, middle), (middle + 1, high)]
    return found


def steps_of_span(length: int, calls: int) -> Int[np.ndarray, " length"]:
    """The call, from 0, that reveals each of `length` positions, from the middle out.

    Each call doubles what is shown, since what is shown first says most.
    """
    shown = [max(k, length >> (calls - k)) for k in range(1, calls + 1)]
    steps = np.zeros(length, np.int32)
    steps[middle_out(length)] = np.searchsorted(shown, np.arange(length), side="right")
    return steps


def order_of(stream: Stream, turns: Sequence[Turn]) -> GivenOrder:
    """Modalities in turns, one after another."""
    spans = {span.modality: span for span in stream.spans}
    order, start = np.zeros(stream.length, np.int32), 0
    for turn in turns:
        for name in turn.modalities:
            span = spans[name]
            steps = steps_of_span(span.length, min(turn.calls, span.length))
            order[span.positions] = start + steps
        start += turn.calls
    return GivenOrder(jnp.asarray(order))


def name_of(turns: Sequence[Turn]) -> str:
    """Such as "text in 3, then image + speech in 1"."""
    return ", then ".join(f"{' + '.join(names)} in {calls}" for names, calls in turns)


def fixed_orders(stream: Stream, made: Sequence[str]) -> dict[str, GivenOrder]:
    """One modality first and the others together, or all one after another, in few calls each.

    Args:
      made: the modalities that are generated.
    """
    return {name_of(turns): order_of(stream, turns) for turns in _all_turns(tuple(made))}


def _all_turns(made: tuple[str, ...]) -> Iterator[tuple[Turn, ...]]:
    if len(made) < 2:
        return
    for first in made:
        others = tuple(name for name in made if name != first)
        for calls in FIRST_CALLS:
            for rest in REST_CALLS:
                yield Turn((first,), calls), Turn(others, rest)
    if len(made) > 2:
        for order in permutations(made):
            yield tuple(Turn((name,), 1) for name in order)


def made_modalities(evaluator: Evaluator) -> list[str]:
    """Those that the prompts leave open; none where the task has one modality."""
    stream = stream_of(evaluator.task)
    if stream is None:
        return []
    opened = evaluator.examples.canvases == evaluator.config.mask_id
    return [span.modality for span in stream.spans if opened[:, span.positions].any()]


def compare_fixed_orders(evaluator: Evaluator) -> dict[str, Outcome]:
    """What `fixed_orders` reach on the evaluation's prompts, by name: one compiled call per batch.

    Empty where fewer than two modalities are generated.
    """
    made = made_modalities(evaluator)
    orders = fixed_orders(stream_of(evaluator.task), made) if len(made) > 1 else {}
    outcomes = evaluator.sweep(list(orders.values())) if orders else []
    return dict(zip(orders, outcomes, strict=True))


def reveals(
    revealed_at: Int[np.ndarray, "n length"], stream: Stream
) -> Float[np.ndarray, "calls modalities"]:
    """How many positions of each modality each call reveals, mean over sequences."""
    calls = int(revealed_at.max()) + 1
    at = revealed_at[None] == np.arange(calls)[:, None, None]
    return np.stack([_of_span(at, span) for span in stream.spans], axis=1)


def _of_span(at: np.ndarray, span: Span) -> Float[np.ndarray, " calls"]:
    return at[:, :, span.positions].sum(axis=2).mean(axis=1)


def reveal_cells(found: Float[np.ndarray, "calls modalities"]) -> list[str]:
    """A text for each of the first calls, and one for all later ones: "1.0 / 0 / 14.2"."""
    padded = np.zeros((SHOWN_CALLS, found.shape[1]))
    padded[: len(found)] = found[:SHOWN_CALLS]
    return [_cell(row) for row in (*padded, found[SHOWN_CALLS:].sum(axis=0))]


def _cell(counts: Float[np.ndarray, " modalities"]) -> str:
    if counts.max() < _LEAST:
        return "-"
    return " / ".join(f"{count:.1f}" if count >= _LEAST else "0" for count in counts)


def best_by_calls(outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """The most accurate for each number of calls, fewest first; those that fewer calls beat left out."""
    found: dict[str, Outcome] = {}
    for name, one in sorted(
        outcomes.items(), key=lambda item: (item[1].row.nfe, -item[1].row.accuracy)
    ):
        if all(one.row.accuracy > other.row.accuracy for other in found.values()):
            found[name] = one
    return found
