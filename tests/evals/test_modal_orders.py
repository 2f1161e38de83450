"""Fixed orders between modalities, and which call reveals what."""

import numpy as np

from mdm_jax.evals.modal_orders import (
    best_by_calls,
    fixed_orders,
    middle_out,
    reveal_cells,
    reveals,
    steps_of_span,
)
from mdm_jax.evals.score import Outcome, Row
from mdm_jax.streams import Span, Stream

STREAM = Stream(9, (Span("a", 1, 3, 0, 2), Span("b", 5, 3, 2, 2)))


def test_each_call_of_a_span_doubles_what_is_shown():
    assert middle_out(5) == [2, 1, 4, 0, 3]
    assert steps_of_span(5, 3).tolist() == [2, 1, 0, 2, 2]
    assert steps_of_span(5, 5).tolist() == [3, 1, 0, 4, 2]
    assert np.bincount(steps_of_span(16, 3)).tolist() == [4, 4, 8]


def test_orders_between_modalities():
    orders = fixed_orders(STREAM, ("a", "b"))
    assert len(orders) == 12
    order = np.asarray(orders["b in 2, then a in 1"].order)
    assert order[5:8].tolist() == [1, 0, 1] and order[1:4].tolist() == [2, 2, 2]
    assert not fixed_orders(STREAM, ("a",))


def test_what_each_call_reveals():
    revealed_at = np.full((2, 9), -1)
    revealed_at[:, 1:4], revealed_at[0, 5:8], revealed_at[1, 5:8] = 0, 1, 2
    found = reveals(revealed_at, STREAM)
    assert found.tolist() == [[3, 0], [0, 1.5], [0, 1.5]]
    assert reveal_cells(found) == ["3.0 / 0", "0 / 1.5", "0 / 1.5", "-", "-"]


def test_orders_that_fewer_calls_beat_are_left_out():
    def outcome(calls, accuracy):
        row = Row("GivenOrder", {}, 1, 2, accuracy, 0.1, 0.9, calls, 1, 4, 4.0, None)
        return Outcome(row, np.array([True, False]))

    of = {"x": outcome(3.0, 0.4), "y": outcome(2.0, 0.5), "z": outcome(2.0, 0.3)}
    assert list(best_by_calls(of)) == ["y"]
