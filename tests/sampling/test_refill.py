"""Rows that take the place of finished ones come to what they come to in a batch of their own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampling_world import EOS, PROMPTED, Config, Hesitant, row_keys, run, toy

from mdm_jax.policies.heuristics import ConfidenceThreshold
from mdm_jax.sampling.refill import advance, begin
from mdm_jax.sampling.rows import Sampler

SETTINGS = [
    (ConfidenceThreshold(0.6), {"gen_length": 8, "block_length": 4, "budget": 4, "eos_id": EOS}),
    (Hesitant(), {"budget": 5, "commit": False}),
]


@pytest.mark.parametrize(("policy", "settings"), SETTINGS, ids=["blocks, budget", "no commit"])
def test_rows_do_not_notice_whose_place_they_take(policy, settings):
    """Two places for six canvases; some rows need all calls that they may make."""
    config = Config(temperature=1.0, **settings)
    whole = run(policy, config, PROMPTED)
    sampler = Sampler(toy(), policy, config)
    go_on = jax.jit(partial(advance, sampler))
    held, waiting, seen = np.array([0, 1]), [5, 2, 3, 4], {}
    running = begin(sampler, row_keys(0, held), jnp.asarray(PROMPTED[held]))
    is_new = np.zeros(2, bool)
    while len(seen) < 6:
        rows = row_keys(0, held), jnp.asarray(PROMPTED[held])
        running, found, done = go_on(*rows, running, is_new, 1 if waiting else 2)
        is_new = np.zeros(2, bool)
        for place in np.flatnonzero(done):
            seen[int(held[place])] = jax.tree.map(lambda x, place=place: x[place], found)
            if waiting:
                held[place], is_new[place] = waiting.pop(), True
    for row, found in seen.items():
        for name in ("canvas", "nfe", "revealed_at", "finite"):
            expected = getattr(whole, name)[row]
            np.testing.assert_array_equal(getattr(found, name), expected, err_msg=f"{name} {row}")
        assert found.passes >= found.nfe
    assert np.ptp(whole.nfe) > 0 and whole.nfe.max() == config.budget
