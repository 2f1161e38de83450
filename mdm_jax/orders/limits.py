"""The limit that no order can pass, exactly, where the distribution can be listed.

A state of generation is the set S of sequences that still fit. Revealing the positions A together draws
each token from its own conditional, so a draw x_A comes with probability q(x_A) = prod_i p(x_i | S) in
place of p(x_A | S), and leads to the smaller set {y in S: y_A = x_A}, which is empty where the draw
contradicts itself. Positions that S determines are revealed at no loss, so only the others matter.

Dynamic programming over these sets, smallest first, finds the best adaptive policy: the most that any
policy, learned or not, can reach with exact conditionals. Sets that a symmetry of the distribution maps
to each other are one state: 4x4 Sudoku has 43, two of which are ends.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64

DONE = 0  # the state in which nothing is masked any more,
KNOWN = 1  # and the one in which a single sequence is left, and some of it masked
MOST_OPEN = 16  # undetermined positions of one state; all their subsets are tried

Rows = Int[np.ndarray, " members"]  # which sequences of the table are in a set


class Moves(NamedTuple):
    """What may be revealed together in one state: every set A of undetermined positions."""

    next: Int[np.ndarray, " next"]  # states that some move leads to
    drawn: Float[np.ndarray, "moves next"]  # probability of each when tokens are drawn one by one
    true: Float[np.ndarray, "moves next"]  # and when they are drawn jointly
    excess_nats: Float[np.ndarray, " moves"]  # sum of entropies minus joint entropy
    finishes: Bool[np.ndarray, " moves"]  # whether nothing stays masked


class Prices(NamedTuple):
    """The best policy where a denoiser call costs `price`."""

    value: float  # of what is maximised
    success: float  # probability that the finished sequence is one of the distribution
    excess_nats: float  # KL(data || sampler), the sum over steps
    calls: float  # mean denoiser calls, over draws of the policy


@dataclass(frozen=True)
class StateGraph:
    """The states of a listed distribution up to symmetry, and the moves of each.

    Attributes:
      moves: one entry per state; state 0 is `DONE`, whose entry is None.
      order: states by number of sequences, smallest first; moves lead to earlier states alone.
      prompts: share of the prompts in each state.
    """

    moves: tuple[Moves | None, ...]
    order: tuple[int, ...]
    prompts: Float[np.ndarray, " states"]


def state_graph(
    table: Int[np.ndarray, "count length"],
    probs: Float[np.ndarray, " count"] | None = None,
    shown: Sequence[int] = (0,),
    symmetries: Sequence[Int[np.ndarray, " count"]] = (),
) -> StateGraph:
    """All states that prompts and moves lead to.

    Args:
      table: every sequence of the distribution.
      probs: of each; None: the same for all.
      shown: numbers of positions that a prompt shows. A number is drawn uniformly from these, the
        positions uniformly, the sequence from the distribution.
      symmetries: permutations of the rows of the table, each the work of one symmetry of the
        distribution. What they generate is used.

    Raises:
      ValueError: more than 16 positions are undetermined.
    """
    table = np.asarray(table)
    weights = np.ones(len(table)) if probs is None else np.asarray(probs, float)
    states = _States(table, weights / weights.sum(), symmetries)
    prompts: dict[int, float] = {}
    for state, mass in states.after_prompts(shown):
        prompts[state] = prompts.get(state, 0.0) + mass
    moves: list[Moves | None] = [None]
    while len(moves) < len(states.members):
        moves.append(states.moves_from(states.members[len(moves)]))
    share = np.zeros(len(moves))
    share[list(prompts)] = list(prompts.values())
    order = sorted(range(1, len(moves)), key=lambda state: len(states.members[state]))
    return StateGraph(tuple(moves), (DONE, *order), share)


def best_success(graph: StateGraph, calls: int) -> list[float]:
    """The largest probability of success within 0, 1, ..., `calls` denoiser calls."""
    value = np.zeros(len(graph.moves))
    value[DONE] = 1.0
    reached = [float(graph.prompts @ value)]
    for _ in range(calls):
        before = value.copy()
        for state in graph.order[1:]:
            moves = graph.moves[state]
            value[state] = np.max(moves.drawn @ before[moves.next])
        reached.append(float(graph.prompts @ value))
    return reached


def best_at_price(graph: StateGraph, price: float, nats: bool = False) -> Prices:
    """max over policies of P(success) - price * calls, or of -excess nats - price * calls.

    A policy whose draw contradicts itself finishes with one call. With `nats`
    calls are charged along sequences of the distribution, as in the bound E[-log w].
    """
    value, success, excess, calls = np.zeros((4, len(graph.moves)))
    success[DONE], value[DONE] = 1.0, float(not nats)
    for state in graph.order[1:]:
        moves = graph.moves[state]
        lost = 1.0 - moves.drawn.sum(axis=1)
        wasted = np.where(moves.finishes, 0.0, lost)  # a contradiction, and something still masked
        if nats:
            values = moves.true @ value[moves.next] - moves.excess_nats - price
        else:
            values = moves.drawn @ value[moves.next] - price * (1.0 + wasted)
        best = int(np.argmax(values))
        drawn, true = moves.drawn[best], moves.true[best]
        value[state] = values[best]
        success[state] = drawn @ success[moves.next]
        excess[state] = true @ excess[moves.next] + moves.excess_nats[best]
        calls[state] = 1.0 + drawn @ calls[moves.next] + wasted[best]
    return Prices(*(float(graph.prompts @ x) for x in (value, success, excess, calls)))


class _States:
    """The sets of sequences seen so far, numbered up to symmetry; a set is known by a random hash.

    64 random bits per sequence are added up; among n sets two share a sum with probability n^2 / 2^65.
    """

    def __init__(
        self,
        table: Int[np.ndarray, "count length"],
        probs: Float[np.ndarray, " count"],
        symmetries: Sequence[Int[np.ndarray, " count"]],
    ):
        self.table, self.probs, self.symmetries = table, probs, [np.asarray(s) for s in symmetries]
        self.bits = np.random.default_rng(0).integers(2**64, size=len(table), dtype=np.uint64)
        self.known: dict[int, int] = {}
        self.members: list[Rows] = [np.zeros(0, int), np.zeros(1, int)]  # of one set of each state

    def number(self, key: int, rows: Rows) -> int:
        """The state of a set, a new one where neither it nor an image of it was seen."""
        if key not in self.known:
            self.members.append(np.sort(rows))
            for image in self._orbit(rows[None]):
                self.known[image] = len(self.members) - 1
        return self.known[key]

    def _orbit(self, sets: Int[np.ndarray, "sets members"]) -> set[int]:
        """Keys of everything that symmetries make of some sets."""
        seen = set(self._keys(sets).tolist())
        while len(sets):
            images = np.concatenate([g[sets] for g in self.symmetries] or [sets[:0]])
            keys, first = np.unique(self._keys(images), return_index=True)
            fresh = [i for key, i in zip(keys.tolist(), first, strict=True) if key not in seen]
            sets = images[fresh]
            seen.update(keys.tolist())
        return seen

    def _keys(self, sets: Int[np.ndarray, "sets members"]) -> UInt64[np.ndarray, " sets"]:
        return np.sum(self.bits[sets], axis=1, dtype=np.uint64)

    def after_prompts(self, shown: Sequence[int]) -> Iterator[tuple[int, float]]:
        """The states that prompts lead to, with their probabilities."""
        everything = np.arange(len(self.table))
        subsets = _subsets(self.table.shape[1])
        sizes = subsets.sum(axis=1)
        subsets, sizes = subsets[np.isin(sizes, shown)], sizes[np.isin(sizes, shown)]
        share = 1.0 / (len(set(shown)) * np.bincount(sizes)[sizes])
        for blocks in self._blocks(everything, np.arange(self.table.shape[1]), subsets):
            yield from zip(blocks.states.tolist(), blocks.true * share[blocks.subset], strict=True)

    def moves_from(self, rows: Rows) -> Moves:
        """Every set of undetermined positions, and where its draws lead."""
        places = np.flatnonzero(np.any(self.table[rows] != self.table[rows[0]], axis=0))
        subsets = _subsets(len(places))
        if len(places):
            subsets = subsets[1:]  # revealing nothing leads nowhere
        finishes = subsets.all(axis=1)
        blocks = list(self._blocks(rows, places, subsets))
        states = np.concatenate([b.states for b in blocks])
        subset = np.concatenate([b.subset for b in blocks])
        drawn, true = (np.concatenate([getattr(b, n) for b in blocks]) for n in ("drawn", "true"))
        states = np.where(finishes[subset], DONE, states)
        following = np.flatnonzero(np.bincount(states))
        column = np.searchsorted(following, states)
        cell, shape = subset * len(following) + column, (len(subsets), len(following))
        nats = true * (np.log(true) - np.log(drawn))
        return Moves(
            following,
            *(np.bincount(cell, x, np.prod(shape)).reshape(shape) for x in (drawn, true)),
            np.bincount(subset, nats, len(subsets)),
            finishes,
        )

    def _blocks(
        self, rows: Rows, places: Int[np.ndarray, " open"], subsets: Bool[np.ndarray, "n open"]
    ) -> Iterator["_Blocks"]:
        """How each set of positions splits the sequences, some thousand sets at a time."""
        probs = self.probs[rows] / self.probs[rows].sum()
        columns = [np.unique(c, return_inverse=True)[1] for c in self.table[np.ix_(rows, places)].T]
        logs = [np.log(np.bincount(column, probs)[column]) for column in columns]
        shape = len(places), len(rows)
        columns, logs = np.reshape(columns, shape).astype(int), np.reshape(logs, shape)
        sizes = columns.max(axis=1, initial=0) + 1
        scale = np.cumprod(np.concatenate([[1], sizes]).astype(object))
        if len(places) > MOST_OPEN or scale[-1] >= 2**63:
            raise ValueError(f"{len(places)} undetermined positions; at most {MOST_OPEN}")
        digits = columns * scale[:-1].astype(np.int64)[:, None]
        chunk = max(1, 2**20 // len(rows))
        for first in range(0, len(subsets), chunk):
            some = subsets[first : first + chunk]
            codes = some.astype(np.int64) @ digits
            yield self._blocks_of(rows, probs, codes, some @ logs, first)

    def _blocks_of(
        self,
        rows: Rows,
        probs: Float[np.ndarray, " members"],
        codes: Int[np.ndarray, "n members"],
        logs: Float[np.ndarray, "n members"],
        first: int,
    ) -> "_Blocks":
        """Sequences with the same code for a set of positions are one block of that set."""
        order = np.argsort(codes, axis=1)
        ordered = np.take_along_axis(codes, order, axis=1)
        starts = np.flatnonzero(np.diff(ordered, axis=1, prepend=-1).ravel())
        sequence = order.ravel()  # numbers within `rows`
        ends = np.append(starts[1:], sequence.size)
        keys = np.add.reduceat(self.bits[rows][sequence], starts)
        states = np.full(len(starts), KNOWN)
        many = np.flatnonzero(ends - starts > 1)
        _, one, inverse = np.unique(keys[many], return_index=True, return_inverse=True)
        numbers = [
            self.number(int(keys[b]), rows[sequence[starts[b] : ends[b]]])
            for b in many[one].tolist()
        ]
        states[many] = np.asarray(numbers, int)[inverse]
        subset = starts // len(rows)
        return _Blocks(
            first + subset,
            states,
            np.exp(logs[subset, sequence[starts]]),
            np.add.reduceat(probs[sequence], starts),
        )


class _Blocks(NamedTuple):
    """What single draws of single sets of positions lead to."""

    subset: Int[np.ndarray, " blocks"]
    states: Int[np.ndarray, " blocks"]
    drawn: Float[np.ndarray, " blocks"]  # probability of the draw, token by token
    true: Float[np.ndarray, " blocks"]  # and jointly


def _subsets(size: int) -> Bool[np.ndarray, "subsets size"]:
    """All subsets of `size` positions, the empty one first."""
    return (np.arange(2**size)[:, None] >> np.arange(size) & 1).astype(bool)
