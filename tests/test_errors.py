"""The check that all numeric settings share."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.errors import MdmError, check_range, check_rows, check_seed


@pytest.mark.parametrize(
    "value, limits, expected",
    [
        (0, {"low": 1}, "n must be at least 1, got 0"),
        (math.inf, {"low": 1}, "n must be finite, got inf"),
        (math.nan, {"low": 1, "high": 5}, "n must be at least 1 and at most 5 and finite, got nan"),
        (1.5, {"low": 0, "high": 1}, "n must be at most 1, got 1.5"),
        (0, {"above": 0}, "n must be above 0, got 0"),
        (1.0, {"low": 0, "below": 1}, "n must be below 1, got 1.0"),
        (np.float32("inf"), {}, "n must be finite, got inf"),
        (np.int64(-1), {"low": 0}, "n must be at least 0, got -1"),
        (10**400, {"high": 5}, "n must be at most 5, got 1000"),
        (10**20, {"low": 1}, "n must be at most 2.147484e+09, got 100000000000000000000"),
        (1e39, {}, "n must be at most 3.402823e+38, got 1e+39"),
    ],
)
def test_what_is_out_of_range_is_refused(value, limits, expected):
    with pytest.raises(MdmError) as caught:
        check_range("n", value, **limits)
    assert str(caught.value).startswith(expected)


def test_what_is_in_range_or_traced_passes():
    for value in (0, 1, 0.5, np.float32(1), None, jnp.array([5.0])):
        check_range("n", value, 0, 1)
    jax.jit(lambda x: check_range("n", x, 0, 1))(7.0)


@pytest.mark.parametrize("seed", [-1, 2**32, 10**30])
def test_seeds_have_32_bits(seed):
    check_seed(2**32 - 1)
    with pytest.raises(MdmError, match="seed must be at"):
        check_seed(seed)


def test_rows_that_are_not_finite_are_named():
    check_rows("values of row", [True, np.True_])
    with pytest.raises(
        MdmError, match=r"^values of row 1 are NaN or infinite: .*lower learning ra"
    ):
        check_rows("values of row", np.array([True, False]))
    with pytest.raises(MdmError, match=r"^values of row 7 and 1 others are NaN"):
        check_rows("values of row", np.array([True, False, False]), [5, 7, 9])
