"""Fitting a form to runs, with intervals."""

import itertools
from typing import NamedTuple

import numpy as np
import scipy  # its parts are imported at their first use
from jaxtyping import Float

from mdm_jax.evals.intervals import Interval
from mdm_jax.laws.columns import Columns, check_form
from mdm_jax.laws.forms import Form, Power
from mdm_jax.laws.huber import Design, Problem, descend, polish

DELTA = 1e-3  # of the Huber loss: all but the smallest residuals count linearly
CHUNK = 64  # resamples side by side: as many as a cache holds
EXPONENTS = (0.1, 0.3, 0.5, 0.8, 1.5)  # where searches start


class Law(NamedTuple):
    """A form with its parameters.

    Attributes:
      form: what is added up.
      theta: logarithms of the coefficients and signed exponents, in the order of `form.names`.
      objective: sum of Huber losses of the log residuals.
    """

    form: Form
    theta: Float[np.ndarray, " params"]
    objective: float

    @property
    def values(self) -> dict[str, float]:
        """The parameters by name, as the formula has them."""
        return {name: float(v[0]) for name, v in natural(self.form, self.theta[None]).items()}

    def predict(self, columns: Columns) -> Float[np.ndarray, " runs"]:
        """The target at other settings."""
        return np.exp(_design(self.form, columns).predict(self.theta[None])[0])


def natural(
    form: Form, theta: Float[np.ndarray, "draws params"]
) -> dict[str, Float[np.ndarray, " draws"]]:
    """Parameters as the formula has them, by name."""
    found, columns = {}, iter(theta.T)
    for term in form.terms:
        found[term.coefficient] = np.exp(next(columns))
        for power in term.powers:
            found[power.exponent] = power.sign * next(columns)
    return found


def fit(form: Form, columns: Columns, delta: float = DELTA) -> Law:
    """The parameters that minimise the sum of Huber losses of log target - log law.

    Every start has exponents from a grid, and the coefficients that fit best with them. All are
    followed, and the best is finished by L-BFGS.

    Args:
      columns: of the runs, see `columns.completed`.
      delta: residuals beyond it count linearly; large: least squares.

    Raises:
      MdmError: a column is missing or not positive, or there are too few runs.

    Reference: Hoffmann et al., arXiv:2203.15556, appendix D.3; Besiroglu et al., arXiv:2404.10102, on why
    the sum and not the mean is what has to be minimised.
    """
    check_form(columns, form)
    problem, shift = _centred(form, columns, delta)
    starts = _starts(form, problem)
    weights = np.ones((len(starts), len(problem.log_y)))
    reached = descend(problem, starts, weights)
    best = reached[np.argmin(problem.objective(reached, weights))]
    theta = polish(problem, best)
    value = problem.objective(theta[None], weights[:1])[0]
    return Law(form, _uncentred(form, theta[None], shift)[0], float(value))


def bootstrap(
    law: Law, columns: Columns, draws: int = 1000, seed: int = 0, delta: float = DELTA
) -> Float[np.ndarray, "draws params"]:
    """Parameters (as `Law.theta`) refitted to reweighted runs, each from the optimum.

    Weights of the runs are Dirichlet(1, ..., 1), the Bayesian bootstrap: no draw loses a run, so that a
    few runs are enough for all parameters.
    """
    problem, shift = _centred(law.form, columns, delta)
    runs = len(problem.log_y)
    weights = runs * np.random.default_rng(seed).dirichlet(np.ones(runs), draws)
    start = np.repeat(_uncentred(law.form, law.theta[None], -shift), draws, axis=0)
    parts = zip(
        *(np.split(each, range(CHUNK, draws, CHUNK)) for each in (start, weights)), strict=True
    )
    reached = np.concatenate([descend(problem, *part, tolerance=1e-5) for part in parts])
    return _uncentred(law.form, reached, shift)


def interval(values: Float[np.ndarray, " draws"], level: float = 0.95) -> Interval:
    """Equal-tailed interval of draws."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def _design(form: Form, columns: Columns) -> Design:
    ones = np.ones(len(columns[form.variables[0]]))
    return Design(
        tuple(
            np.stack([ones, *(_log_product(power, columns) for power in term.powers)], axis=1)
            for term in form.terms
        )
    )


def _log_product(power: Power, columns: Columns) -> Float[np.ndarray, " runs"]:
    return np.prod([np.log(columns[name]) for name in power.variables], axis=0)


def _centred(
    form: Form, columns: Columns, delta: float
) -> tuple[Problem, Float[np.ndarray, " params"]]:
    """The problem with logarithms from which their means are taken, and these (0 for coefficients).

    Without it coefficients and exponents are all but collinear, and no solver gets far.
    """
    blocks = _design(form, columns).blocks
    shifts = [np.r_[0, block[:, 1:].mean(axis=0)] for block in blocks]
    design = Design(tuple(b - s for b, s in zip(blocks, shifts, strict=True)))
    return Problem(design, np.log(columns[form.target]), delta), np.concatenate(shifts)


def _uncentred(
    form: Form, theta: Float[np.ndarray, "draws params"], shift: Float[np.ndarray, " params"]
) -> Float[np.ndarray, "draws params"]:
    """Parameters for logarithms as they are, from those for logarithms without their means."""
    moved, place = theta.copy(), 0
    for term in form.terms:
        end = place + 1 + len(term.powers)
        moved[:, place] -= theta[:, place + 1 : end] @ shift[place + 1 : end]
        place = end
    return moved


def _starts(form: Form, problem: Problem) -> Float[np.ndarray, "starts params"]:
    """Exponents from a grid with the coefficients of a non-negative least-squares fit of y / y = 1.

    A form of one term is linear in logarithms and needs one start.
    """
    blocks = problem.design.blocks
    if len(blocks) == 1:
        return np.linalg.lstsq(blocks[0], problem.log_y, rcond=None)[0][None]
    signs = [[power.sign for power in term.powers] for term in form.terms]
    grids = [itertools.product(EXPONENTS, repeat=len(each)) for each in signs]
    return np.stack(
        [
            _start(problem, [np.multiply(s, e) for s, e in zip(signs, exponents, strict=True)])
            for exponents in itertools.product(*grids)
        ]
    )


def _start(problem: Problem, slopes: list[np.ndarray]) -> Float[np.ndarray, " params"]:
    pairs = zip(problem.design.blocks, slopes, strict=True)
    shapes = np.stack([block[:, 1:] @ slope for block, slope in pairs], axis=1)
    terms = np.exp(shapes - problem.log_y[:, None])
    coefficients, _ = scipy.optimize.nnls(terms, np.ones(len(terms)))
    logs = np.log(np.maximum(coefficients, 1e-3 / terms.max(axis=0)))
    return np.concatenate([np.r_[log, slope] for log, slope in zip(logs, slopes, strict=True)])
