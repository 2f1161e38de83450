"""How far the best learning rate moves, and what the base's costs."""

import math

import pytest

from mdm_jax.laws.rate_sweep import RateSweep

LOSSES = {64: (3.0, 2.0, 1.5, 1.8), 128: (2.5, 1.6, 1.4, 9.0), 256: (1.2, 1.1, 1.7, math.inf)}
SWEEP = RateSweep("none", "width", (0.1, 0.2, 0.4, 0.8), LOSSES, 64)


def test_the_optimum_moves():
    assert [SWEEP.best(size) for size in LOSSES] == [2, 2, 1]
    assert SWEEP.moved == 1 and SWEEP.at_edges == ()
    assert SWEEP.cost(64) == 0 and SWEEP.cost(256) == pytest.approx(0.6)
    assert "0.4 at 64, 0.4 at 128, 0.2 at 256; it moves by 1 grid point," in SWEEP.verdict()
    assert SWEEP.verdict().endswith("the base's loses 0.600 nats per token at 256")


def test_an_optimum_at_the_end_of_the_grid_is_named():
    ended = SWEEP._replace(losses={64: LOSSES[64], 256: (1.0, *LOSSES[256][1:])})
    assert ended.moved == 2 and ended.at_edges == (256,)
    assert ended.verdict().endswith("(the grid ends at the best of 256: give further --rates)")
