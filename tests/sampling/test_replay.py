"""Replaying a generation from its trace, and from the steps of its positions alone."""

import jax
import numpy as np
import pytest
from sampling_world import CANVASES, EOS, MASK, PROMPTED, Config, Hesitant, run

from mdm_jax.policies.heuristics import TopConfidence
from mdm_jax.sampling.replay import replay_reveals, replay_trace


@pytest.mark.parametrize(
    ("canvases", "config"),
    [
        (CANVASES, Config(temperature=1.0, record=True)),
        (PROMPTED, Config(temperature=1.0, record=True, gen_length=8, eos_id=EOS)),
    ],
    ids=["whole canvas", "window and EOS"],
)
def test_both_ways_agree_and_end_where_the_generation_did(canvases, config):
    rollouts = jax.device_get(run(TopConfidence(4), config, canvases))
    for row, canvas in enumerate(canvases):
        rollout = jax.tree.map(lambda leaf, row=row: leaf[row], rollouts)
        steps = replay_trace(rollout, canvas, config)
        assert len(steps) == rollout.nfe + 1
        np.testing.assert_array_equal(steps[0], canvas)
        np.testing.assert_array_equal(steps[-1], rollout.canvas)
        masked = [(step == MASK).sum() for step in steps]
        assert masked == sorted(masked, reverse=True)
        if config.eos_id is None:
            again = replay_reveals(canvas, rollout.canvas, rollout.revealed_at, MASK)
            np.testing.assert_array_equal(again, steps)


def test_a_trace_shows_what_was_masked_again():
    config = Config(temperature=1.0, record=True)
    rollout = jax.tree.map(lambda leaf: leaf[0], jax.device_get(run(Hesitant(), config)))
    steps = replay_trace(rollout, CANVASES[0], config)
    assert (np.diff([(step == MASK).sum() for step in steps]) > 0).any()
