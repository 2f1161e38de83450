"""Minimising the sum of Huber losses of log residuals, many starts or resamples at once."""

from typing import NamedTuple

import numpy as np
import scipy  # its parts are imported at their first use
from jaxtyping import Float

Params = Float[np.ndarray, "draws params"]


class Design(NamedTuple):
    """What the parameters of a sum of powers multiply: of each term a one and its logarithms, [runs, n].

    The law is log y = logsumexp over terms of block @ parameters.
    """

    blocks: tuple[Float[np.ndarray, "runs _"], ...]

    def split(self, theta: Params) -> list[np.ndarray]:
        """The parameters of each term, [draws, n]."""
        ends = np.cumsum([block.shape[1] for block in self.blocks])[:-1]
        return np.split(theta, ends, axis=1)

    def predict(self, theta: Params) -> Float[np.ndarray, "draws runs"]:
        """log y under each parameter vector."""
        return scipy.special.logsumexp(self._terms(theta), axis=1)

    def predict_and_slopes(
        self, theta: Params
    ) -> tuple[Float[np.ndarray, "draws runs"], Float[np.ndarray, "draws runs params"]]:
        """log y and its derivatives."""
        terms = self._terms(theta)
        total = scipy.special.logsumexp(terms, axis=1)
        shares = np.exp(terms - total[:, None])
        parts = [shares[:, j, :, None] * block for j, block in enumerate(self.blocks)]
        return total, np.concatenate(parts, axis=-1)

    def _terms(self, theta: Params) -> Float[np.ndarray, "draws terms runs"]:
        parts = zip(self.split(theta), self.blocks, strict=True)
        return np.stack([part @ block.T for part, block in parts], axis=1)


class Problem(NamedTuple):
    """Data of a fit.

    Attributes:
      design: of the law.
      log_y: what it predicts.
      delta: of the Huber loss: residuals beyond it count linearly.
    """

    design: Design
    log_y: Float[np.ndarray, " runs"]
    delta: float

    def objective(
        self, theta: Params, weights: Float[np.ndarray, "draws runs"]
    ) -> Float[np.ndarray, " draws"]:
        """The sum of Huber losses. A sum: solvers stop at absolute changes, and a mean is small."""
        residuals = self.design.predict(theta) - self.log_y
        return (weights * scipy.special.huber(self.delta, residuals)).sum(axis=1)


def descend(
    problem: Problem,
    start: Params,
    weights: Float[np.ndarray, "draws runs"],
    iterations: int = 150,
    tolerance: float = 1e-7,
) -> Params:
    """Reweighted Gauss-Newton steps with damping (Levenberg-Marquardt), all draws side by side.

    A residual r has the weight min(1, delta / |r|) of the quadratic that bounds its Huber loss from
    above and touches it there. A step that does not lower its draw's objective is not taken.

    Args:
      start: first parameters of each draw.
      weights: of the runs in each draw.
      tolerance: relative gain in ten steps below which all draws have to be for an end.
    """
    theta, damping = start, np.full(len(start), 1e-3)
    value = problem.objective(theta, weights)
    before = value
    for index in range(iterations):
        proposed = theta - _step(problem, theta, weights, damping)
        reached = problem.objective(proposed, weights)
        better = reached < value
        theta = np.where(better[:, None], proposed, theta)
        value = np.where(better, reached, value)
        damping = np.clip(np.where(better, damping / 4, damping * 6), 1e-9, 1e9)
        if index % 10 == 9:
            if np.all(before - value <= tolerance * value):
                break
            before = value
    return theta


def _step(
    problem: Problem,
    theta: Params,
    weights: Float[np.ndarray, "draws runs"],
    damping: Float[np.ndarray, " draws"],
) -> Params:
    predicted, slopes = problem.design.predict_and_slopes(theta)
    residuals = predicted - problem.log_y
    bound = weights * np.minimum(1, problem.delta / np.maximum(np.abs(residuals), 1e-300))
    weighted = np.swapaxes(slopes * bound[..., None], 1, 2)
    curvature = weighted @ slopes
    diagonal = np.einsum("dpp->dp", curvature)
    floor = 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-300
    extra = damping[:, None] * diagonal + floor
    curvature = curvature + extra[..., None] * np.eye(theta.shape[1])
    return np.linalg.solve(curvature, weighted @ residuals[..., None])[..., 0]


def polish(problem: Problem, start: Float[np.ndarray, " params"]) -> Float[np.ndarray, " params"]:
    """L-BFGS from a good start until it gains nothing any more."""

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        predicted, slopes = problem.design.predict_and_slopes(theta[None])
        residuals = predicted[0] - problem.log_y
        value = scipy.special.huber(problem.delta, residuals).sum()
        slope = np.clip(residuals, -problem.delta, problem.delta) @ slopes[0]
        return value / problem.delta**2, slope / problem.delta**2

    options = {"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-9}
    return scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
