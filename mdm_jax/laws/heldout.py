"""Extrapolation: how wrong a law is about runs larger than those it was fitted to."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from mdm_jax.errors import MdmError
from mdm_jax.laws.columns import Columns, chosen
from mdm_jax.laws.fit import DELTA, Law, fit
from mdm_jax.laws.forms import Form


class Extrapolation(NamedTuple):
    """Errors of a law on runs beyond its own.

    Attributes:
      law: fitted to the smaller runs.
      heldout: which runs were kept from it.
      reach: largest value held out over the largest one fitted, of the column that ranks the runs.
      relative: (predicted - measured) / measured of each run held out.
    """

    law: Law
    heldout: Bool[np.ndarray, " runs"]
    reach: float
    relative: Float[np.ndarray, " heldout"]

    @property
    def mean_relative_error(self) -> float:
        return float(np.abs(self.relative).mean())


def largest(
    columns: Columns, share: float, by: str = "flops", smallest: bool = False
) -> Bool[np.ndarray, " runs"]:
    """The runs with the largest values of a column, at least one of them.

    Args:
      share: of the runs; equal values are kept together.
      smallest: those with the smallest values instead, as for excess nats.

    Raises:
      MdmError: no run would be left.
    """
    values = -columns[by] if smallest else columns[by]
    rank = max(1, round(share * len(values)))
    which = values >= np.sort(values)[-rank]
    if which.all():
        raise MdmError(f"holding out {share:.0%} of the runs by {by} leaves none to fit")
    return which


def extrapolation(
    form: Form,
    columns: Columns,
    heldout: Bool[np.ndarray, " runs"],
    by: str = "flops",
    delta: float = DELTA,
) -> Extrapolation:
    """A law of the other runs, and its errors on those held out.

    Raises:
      MdmError: too few runs are left for the form.
    """
    law = fit(form, chosen(columns, ~heldout), delta)
    beyond = chosen(columns, heldout)
    reach = float(beyond[by].max() / columns[by][~heldout].max())
    return Extrapolation(law, heldout, reach, law.predict(beyond) / beyond[form.target] - 1)
