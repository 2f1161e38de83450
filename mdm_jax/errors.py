"""The error of everything that the caller can mend, and the check that all numbers share."""

import math
from typing import Any

import numpy as np


class MdmError(ValueError):
    """A setting, a file or a combination of both that cannot work; the message says what to change.

    The command line prints the message as one line and exits with status 2. Whatever else is raised
    there is a bug of mdm_jax and keeps its traceback.
    """


def check_range(
    name: str, value: Any, low: int | float = -math.inf, high: int | float = math.inf
) -> None:
    """Raise MdmError unless a number is finite and low <= value <= high.

    Arrays and tracers pass unseen, so that settings may be stacked and mapped.
    """
    if not isinstance(value, int | float | np.number):
        return
    if low <= value <= high and abs(value) != math.inf:
        return
    if low != -math.inf and high != math.inf:
        wanted = f"between {low} and {high}"
    elif low != -math.inf:
        wanted = f"at least {low}" + ("" if value < low else " and finite")
    elif high != math.inf:
        wanted = f"at most {high}" + ("" if value > high else " and finite")
    else:
        wanted = "finite"
    raise MdmError(f"{name} must be {wanted}, got {value}")
