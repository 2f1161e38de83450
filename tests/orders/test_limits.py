"""The exact limit of orders: against brute force on a small world, and the values of 4x4 Sudoku."""

import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from mdm_jax.orders.limits import DONE, best_at_price, best_success, state_graph
from mdm_jax.tasks.sudoku.symmetries import grid_symmetries
from mdm_jax.tasks.sudoku.task import all_grids

TABLE = np.array(
    [[0, 0, 0, 1], [0, 1, 1, 1], [1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 1, 2], [2, 2, 1, 0]]
)
PROBS = np.array([0.3, 0.2, 0.1, 0.15, 0.05, 0.2])
LENGTH = TABLE.shape[1]


@cache
def split(rows, chosen):
    """[(rows that are left, probability when drawn token by token, and jointly)]"""
    table, probs = TABLE[list(rows)], PROBS[list(rows)] / PROBS[list(rows)].sum()
    found = {}
    for row, tokens in zip(rows, table, strict=True):
        found.setdefault(tuple(tokens[list(chosen)]), []).append(row)
    out = []
    for tokens, left in found.items():
        drawn = np.prod(
            [probs[table[:, i] == t].sum() for i, t in zip(chosen, tokens, strict=True)]
        )
        out.append((tuple(left), drawn, PROBS[left].sum() / PROBS[list(rows)].sum()))
    return out


def moves(masked):
    sizes = range(1, len(masked) + 1)
    return itertools.chain.from_iterable(itertools.combinations(masked, n) for n in sizes)


@cache
def success(rows, masked, calls):
    """By the definition: states are what is masked and the rows that fit."""
    if not masked or not calls:
        return float(not masked)

    def value(chosen):
        rest = tuple(i for i in masked if i not in chosen)
        return sum(drawn * success(left, rest, calls - 1) for left, drawn, _ in split(rows, chosen))

    return max(map(value, moves(masked)))


@cache
def at_price(rows, masked, price, nats):
    if not masked:
        return 0.0 if nats else 1.0

    def value(chosen):
        rest = tuple(i for i in masked if i not in chosen)
        total, lost = -price, 1.0
        for left, drawn, true in split(rows, chosen):
            after = at_price(left, rest, price, nats)
            total += true * (after + np.log(drawn / true)) if nats else drawn * after
            lost -= drawn
        return total if nats else total - price * lost * bool(rest)

    return max(map(value, moves(masked)))


def prompts(shown):
    """(probability, rows that fit, what is masked) of every prompt."""
    for count in shown:
        subsets = list(itertools.combinations(range(LENGTH), count))
        for chosen in subsets:
            for left, _, true in split(tuple(range(len(TABLE))), chosen):
                masked = tuple(i for i in range(LENGTH) if i not in chosen)
                yield true / len(subsets) / len(shown), left, masked


@pytest.mark.parametrize("shown", [(0,), (0, 1, 2)])
def test_the_limit_of_a_small_world_by_brute_force(shown):
    graph = state_graph(TABLE, PROBS, shown)
    for calls, reached in enumerate(best_success(graph, 4)):
        by_hand = sum(p * success(rows, masked, calls) for p, rows, masked in prompts(shown))
        np.testing.assert_allclose(reached, by_hand, atol=1e-12)
    for price, nats in itertools.product((0.02, 0.15, 0.5), (False, True)):
        found = best_at_price(graph, price, nats)
        by_hand = sum(p * at_price(*rest, price, nats) for p, *rest in prompts(shown))
        np.testing.assert_allclose(found.value, by_hand, atol=1e-12)
        if nats:
            assert found.excess_nats >= 0
        else:
            np.testing.assert_allclose(found.value, found.success - price * found.calls, atol=1e-12)


def test_symmetries_change_nothing_but_the_number_of_states():
    table = np.array([x for x in itertools.product(range(2), repeat=4) if sum(x) % 2 == 0])
    images = [table[:, [1, 0, 2, 3]], table[:, [1, 2, 3, 0]], table ^ [1, 1, 0, 0]]
    rows = table.tolist()
    symmetries = [np.array([rows.index(row) for row in image.tolist()]) for image in images]
    plain, merged = state_graph(table), state_graph(table, symmetries=symmetries)
    assert len(merged.moves) < len(plain.moves)
    np.testing.assert_allclose(best_success(merged, 3), best_success(plain, 3), atol=1e-12)
    np.testing.assert_allclose(best_at_price(merged, 0.1), best_at_price(plain, 0.1), atol=1e-12)


def test_moves_are_distributions():
    graph = state_graph(TABLE, PROBS)
    for moves_of in graph.moves[DONE + 1 :]:
        np.testing.assert_allclose(moves_of.true.sum(axis=1), 1.0)
        assert (moves_of.drawn.sum(axis=1) < 1 + 1e-12).all()
        assert (moves_of.excess_nats > -1e-12).all()


def test_too_many_open_positions_are_refused():
    with pytest.raises(ValueError, match="17 undetermined positions"):
        state_graph(np.eye(17, dtype=int))


def test_the_limits_of_sudoku():
    graph = state_graph(all_grids(), shown=range(5), symmetries=grid_symmetries())
    assert len(graph.moves) == 43  # the finished one, one sequence left, and 41 with a choice
    np.testing.assert_allclose(best_success(graph, 5), [0, 0.0159, 0.7204, 0.9584, 1, 1], atol=5e-5)
    for price, reached, calls in [(0.6, 0.712, 1.887), (0.3, 0.979, 2.548), (0.02, 1.0, 2.639)]:
        found = best_at_price(graph, price)
        np.testing.assert_allclose((found.success, found.calls), (reached, calls), atol=5e-4)
    everything = np.eye(len(graph.moves))[graph.order[-1]]  # the largest state: an empty grid
    empty = best_success(replace(graph, prompts=everything), 4)
    np.testing.assert_allclose(empty[2:], [0.4702, 0.7920, 1.0], atol=5e-5)
