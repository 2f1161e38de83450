"""The policies of a frontier: for each kind, the settings of its knob that are tried."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mdm_jax.denoisers.base import Denoise
from mdm_jax.errors import MdmError
from mdm_jax.policies import heuristics
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.policies.base import Policy
from mdm_jax.runs.adaptive import price_range
from mdm_jax.runs.policy_specs import Learned
from mdm_jax.tasks.base import Task

PRICES = 25
SCHEDULED = (
    heuristics.Random,
    heuristics.Ancestral,
    heuristics.LeftToRight,
    heuristics.TopConfidence,
    heuristics.TopMargin,
    heuristics.LowEntropy,
)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Knobs to try; an empty one leaves its policies out.

    Attributes:
      steps: of the policies in `SCHEDULED`.
      thresholds: of ConfidenceThreshold.
      factors: of Factor.
      gammas: of EntropyBound.
      learned: run directories of learn_order, learn_variational_order or learn_policy.
      prices: of a denoiser call, for policies with a price; None: 25 over all that the run learned at.
      scales: of the other learned policies, which are drawn at temperature 1: probabilities become
        min(1, scale * probability).
    """

    steps: tuple[int, ...]
    thresholds: tuple[float, ...]
    factors: tuple[float, ...]
    gammas: tuple[float, ...]
    learned: tuple[str, ...]
    prices: tuple[float, ...] | None
    scales: tuple[float, ...]

    def policies(self, denoise: Denoise, task: Task) -> list[tuple[str, list[Policy]]]:
        """The settings of each kind of policy, with its name.

        Raises:
          MdmError: there are none, or a learned policy is for something else.
        """
        found = [*self._heuristics(), *self._learned(denoise, task)]
        if not found:
            raise MdmError(
                "nothing to sweep: give --steps, --thresholds, --factors, --gammas or --learned"
            )
        return found

    def _heuristics(self) -> Iterator[tuple[str, list[Policy]]]:
        for kind, values in (
            *((kind, self.steps) for kind in SCHEDULED),
            (heuristics.ConfidenceThreshold, self.thresholds),
            (heuristics.Factor, self.factors),
            (heuristics.EntropyBound, self.gammas),
        ):
            if values:
                yield kind.__name__, [kind(value) for value in values]

    def _learned(self, denoise: Denoise, task: Task) -> Iterator[tuple[str, list[Policy]]]:
        runs = list(dict.fromkeys(self.learned))
        short = [Path(run).name for run in runs]
        names = short if len(set(short)) == len(short) else runs
        for run, name in zip(runs, names, strict=True):
            policy = Learned().load(run, denoise, task)
            if isinstance(policy, AdaptivePolicy):
                prices = all_prices(run) if self.prices is None else self.prices
                family = [replace(policy, price=price) for price in prices]
            else:
                drawn = replace(policy, policy_temperature=1.0)
                family = [replace(drawn, scale=scale) for scale in self.scales]
            if family:
                yield f"{type(policy).__name__}, {name}", family


def all_prices(run: str | Path) -> list[float]:
    """Prices between the least and the largest that a run has learned at."""
    return [float(price) for price in np.geomspace(*price_range(run), PRICES).round(4)]
