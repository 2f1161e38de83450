"""Where a response ends."""

import jax
import numpy as np

from mdm_jax.sampling.canvas import before_eos

EOS = 9


def test_stops_at_the_first_eos_of_the_response_only():
    tokens = np.array([EOS, 1, 2, 3, EOS, 4, EOS, EOS])
    is_response = np.array([0, 0, 1, 1, 1, 1, 1, 0], bool)
    got = jax.jit(before_eos, static_argnums=2)(tokens, is_response, EOS)
    np.testing.assert_array_equal(got, [0, 0, 1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(before_eos(tokens * 0, is_response, EOS), is_response)
    np.testing.assert_array_equal(
        before_eos(tokens * 0 + EOS, is_response, EOS), is_response & False
    )
