"""Which settings are compared with a learned policy."""

import numpy as np

from mdm_jax.evals.matched import neighbours


def test_the_settings_on_either_side():
    calls = np.array([9.0, 6.0, 6.5, 3.0, 1.0])
    assert neighbours(calls, 6.2) == [1, 2]
    assert neighbours(calls, 6.0) == [1, 2]
    assert neighbours(calls, 0.5) == [4]  # nothing below: not the first setting, which is far off
    assert neighbours(calls, 20.0) == [0]
    assert neighbours(calls, 8.0) == [0, 2]
