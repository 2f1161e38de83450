"""The check that all numeric settings share."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.errors import MdmError, check_range


@pytest.mark.parametrize(
    "value, low, high, expected",
    [
        (0, 1, math.inf, "n must be at least 1, got 0"),
        (math.inf, 1, math.inf, "n must be at least 1 and finite, got inf"),
        (1.5, 0, 1, "n must be between 0 and 1, got 1.5"),
        (math.nan, 0, 1, "n must be between 0 and 1, got nan"),
        (math.nan, -math.inf, math.inf, "n must be finite, got nan"),
        (np.float32("inf"), -math.inf, math.inf, "n must be finite, got inf"),
        (3, -math.inf, 2, "n must be at most 2, got 3"),
        (np.int64(-1), 0, math.inf, "n must be at least 0, got -1"),
        (10**400, 0, 5, "n must be between 0 and 5"),
    ],
)
def test_what_is_out_of_range_is_refused(value, low, high, expected):
    with pytest.raises(MdmError) as caught:
        check_range("n", value, low, high)
    assert expected in str(caught.value)


def test_what_is_in_range_or_traced_passes():
    for value in (0, 1, 0.5, np.float32(1), None, jnp.array([5.0])):
        check_range("n", value, 0, 1)
    jax.jit(lambda x: check_range("n", x, 0, 1))(7.0)
