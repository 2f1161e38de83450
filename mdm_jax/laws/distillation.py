"""The distillation law: a student's loss from its size, its tokens, and its teacher's loss.

    L_S = L_T + L_T^-c0 (1 + (L_T / (L~_S d1))^(1/f1))^(-c1 f1) (A / N_S^a + B / D_S^b)^g

with L~_S the loss of the same student trained without a teacher. The teacher enters through its loss
alone; a student first gains from a better one and then loses (the capacity gap).

Reference: Busbridge et al., arXiv:2502.08606, Eq. 8.
"""

from typing import NamedTuple

import numpy as np
import scipy  # its parts are imported at their first use
from jaxtyping import Float

from mdm_jax.laws.columns import Columns, check_columns

NEEDED = ("parameters", "tokens", "teacher_loss", "supervised_loss", "loss")
FORMULA = "L_S = L_T + L_T^-c0 (1 + (L_T / (L~_S d1))^(1/f1))^(-c1 f1) (A / N^a + B / D^b)^g"
STARTS = 24
MOST = 700.0  # of a logarithm whose exponential is finite


class Distillation(NamedTuple):
    """The nine positive parameters; the defaults are where a search starts."""

    c0: float = 2.5
    c1: float = 100.0
    f1: float = 0.1
    d1: float = 1.3
    A: float = 2000.0
    a: float = 0.3
    B: float = 20_000.0
    b: float = 0.6
    g: float = 0.75

    def predict(self, columns: Columns) -> Float[np.ndarray, " runs"]:
        """The student's loss in nats per token, from all columns of `NEEDED` but `loss`."""
        teacher = columns["teacher_loss"]
        ratio = np.log(teacher / (columns["supervised_loss"] * self.d1)) / self.f1
        gap = -self.c0 * np.log(teacher) - self.c1 * self.f1 * np.logaddexp(0, ratio)
        by_size = np.log(self.A) - self.a * np.log(columns["parameters"])
        by_tokens = np.log(self.B) - self.b * np.log(columns["tokens"])
        return teacher + np.exp(np.minimum(gap + self.g * np.logaddexp(by_size, by_tokens), MOST))


def supervised_loss(
    law: Distillation, irreducible: float, columns: Columns
) -> Float[np.ndarray, " runs"]:
    """E + (A / N^a + B / D^b)^g: the form of L~_S in the same paper, which ties both powers by g."""
    by_size = law.A / columns["parameters"] ** law.a
    return irreducible + (by_size + law.B / columns["tokens"] ** law.b) ** law.g


def fit_distillation(
    columns: Columns, delta: float = 1e-3, starts: int = STARTS, seed: int = 0
) -> tuple[Distillation, float]:
    """The law that minimises the sum of Huber losses of log residuals, and that sum.

    Nine parameters describe a surface of four variables, along flat valleys: predictions are
    determined by data, single parameters are not.

    Args:
      columns: those of `NEEDED`, losses in nats per token.
      starts: random ones around the defaults; the best end is returned.

    Raises:
      MdmError: a column is missing or not positive, or there are fewer than ten runs.
    """
    check_columns(columns, NEEDED, len(Distillation._fields) + 1)
    log_loss, middle = np.log(columns["loss"]), np.log(Distillation())

    def residuals(logs: Float[np.ndarray, " params"]) -> Float[np.ndarray, " runs"]:
        return np.log(Distillation(*np.exp(logs)).predict(columns)) - log_loss

    rng = np.random.default_rng(seed)
    found = [
        scipy.optimize.least_squares(
            residuals,
            middle + rng.normal(0, 0.5 * (index > 0), len(middle)),
            bounds=(middle - 8, middle + 8),
            loss="huber",
            f_scale=delta,
            x_scale=1.0,
            max_nfev=400,
        )
        for index in range(starts)
    ]
    best = min(found, key=lambda one: one.cost)
    value = scipy.special.huber(delta, best.fun).sum()
    return Distillation(*map(float, np.exp(best.x))), float(value)
