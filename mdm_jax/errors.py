"""The error of everything that the caller can mend, and the check that numeric settings share."""

import math
from typing import Any

import numpy as np

NOT_FINITE = (
    "are NaN or infinite: the weights are damaged or their training diverged; use another checkpoint, "
    "or train with a lower learning rate"
)
INT32_MAX, FLOAT32_MAX = 2**31 - 1, float(np.finfo(np.float32).max)


class MdmError(ValueError):
    """A setting, a file or a combination of both that cannot work; the message says what to change.

    The command line prints the message as one line and exits with status 2. Whatever else is raised
    there is a bug of mdm_jax and keeps its traceback.
    """


def check_range(
    name: str,
    value: Any,
    low: int | float | None = None,
    high: int | float | None = None,
    *,
    above: int | float | None = None,
    below: int | float | None = None,
) -> None:
    """Raise MdmError unless a number is finite, in [low, high], above `above` and below `below`.

    Without `high` the limit is that of 32 bits, as programs have no larger numbers.
    Arrays and tracers pass unseen, so that settings may be stacked and mapped.
    """
    if not isinstance(value, int | float | np.number):
        return
    most = INT32_MAX if isinstance(value, int) else FLOAT32_MAX
    limits = [
        (f"at least {low}", low is None or value >= low),
        (f"at most {high}", high is None or value <= high),
        (f"above {above}", above is None or value > above),
        (f"below {below}", below is None or value < below),
        ("finite", abs(value) < math.inf),
        (f"at most {most:.7g}", high is not None or not most < abs(value) < math.inf),
    ]
    broken = [wanted for wanted, holds in limits if not holds]
    if broken:
        raise MdmError(f"{name} must be {' and '.join(broken)}, got {value}")


def check_rows(name: str, fine: Any, numbers: Any = None) -> None:
    """Raise MdmError, naming the first, if values of some rows are not finite.

    Args:
      name: of the values and of what a row is.
      fine: whether those of each row are, [rows].
      numbers: of the rows, [rows]; None: 0, 1, ...
    """
    bad = np.flatnonzero(~np.asarray(fine))
    if len(bad):
        first = bad[0] if numbers is None else np.asarray(numbers)[bad[0]]
        others = f" and {len(bad) - 1} others" if len(bad) > 1 else ""
        raise MdmError(f"{name} {first}{others} {NOT_FINITE}")


def check_seed(value: int, name: str = "seed") -> None:
    """Raise MdmError unless the seed has 32 bits: JAX takes no others, or takes them modulo 2^32."""
    check_range(name, value, 0, 2**32 - 1)
