"""Random search in a trust region: proposals near the best point, nearer after failures.

Losses of settings in logarithms are close to having one minimum, with cliffs behind which training
diverges; search that strays far, or models the loss, falls off them. Reference: arXiv:2512.22382, whose
search this follows in outline (second-hand; its schedule of radii is not known).
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

PATIENCE, SHRINK = 6, 0.5  # failures in a row, after which the radius is multiplied

Point = Float[np.ndarray, " settings"]


class TrustRegion(NamedTuple):
    """The best point so far, with its loss, and the half width of the box around it."""

    best: Point
    loss: float
    radius: float
    failures: int = 0

    def propose(self, seed: int, trial: int) -> Point:
        """A uniform draw from the box: a function of its arguments, so that a search resumes."""
        draw = np.random.default_rng((seed, trial)).uniform(-1, 1, len(self.best))
        return self.best + self.radius * draw

    def told(self, point: Point, loss: float) -> "TrustRegion":
        """After the loss of a proposal is known; inf and NaN are failures."""
        if loss < self.loss:
            return TrustRegion(point, loss, self.radius)
        failures = self.failures + 1
        if failures < PATIENCE:
            return self._replace(failures=failures)
        return self._replace(failures=0, radius=self.radius * SHRINK)
