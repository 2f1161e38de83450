"""The policies of a frontier: for each kind, the settings of its knob that are tried."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from mdm_jax.denoisers.base import Denoise
from mdm_jax.errors import MdmError
from mdm_jax.policies import heuristics
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.policies.base import Policy
from mdm_jax.runs.adaptive import check_price, price_range
from mdm_jax.runs.policy_specs import Learned, Spec, resolve
from mdm_jax.tasks.base import Task

P = TypeVar("P", bound=Policy | Spec)
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
      policy: another policy, or what says which.
      knob: which of its settings, as in `at`.
      values: of the knob.
      learned: run directories of learn_order, learn_variational_order or learn_policy.
      prices: of a denoiser call, for policies with a price; None: 25 over all that the run learned at.
      scales: of the other learned policies, which are drawn at temperature 1: probabilities become
        min(1, scale * probability).
    """

    steps: tuple[int, ...]
    thresholds: tuple[float, ...]
    factors: tuple[float, ...]
    gammas: tuple[float, ...]
    policy: Policy | Spec | None = None
    knob: str = "steps"
    values: tuple[float, ...] = ()
    learned: tuple[str, ...]
    prices: tuple[float, ...] | None
    scales: tuple[float, ...]

    def policies(
        self, run: str | Path, denoise: Denoise, task: Task
    ) -> list[tuple[str, list[Policy]]]:
        """The settings of each kind of policy, with its name.

        Args:
          run: of the denoiser.

        Raises:
          MdmError: there are none, `policy` has no such knob, or a learned policy is for something else.
        """
        named = [] if self.policy is None else [self._named(self.policy, run, denoise, task)]
        found = [*self._heuristics(), *named, *self._learned(denoise, task)]
        if not found:
            raise MdmError(
                "nothing to sweep: give --steps, --thresholds, --factors, --gammas, --learned or "
                "--values and policy:NAME"
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

    def _named(
        self, policy: Policy | Spec, run: str | Path, denoise: Denoise, task: Task
    ) -> tuple[str, list[Policy]]:
        settings = [at(policy, self.knob, value) for value in self.values]
        return type(policy).__name__, [resolve(one, run, denoise, task) for one in settings]

    def _learned(self, denoise: Denoise, task: Task) -> Iterator[tuple[str, list[Policy]]]:
        runs = list(dict.fromkeys(self.learned))
        short = [Path(run).name for run in runs]
        names = short if len(set(short)) == len(short) else runs
        for run, name in zip(runs, names, strict=True):
            policy = Learned().load(run, denoise, task)
            if isinstance(policy, AdaptivePolicy):
                for price in self.prices or ():
                    check_price(run, price)
                prices = all_prices(run) if self.prices is None else self.prices
                family = [replace(policy, price=price) for price in prices]
            else:
                drawn = replace(policy, policy_temperature=1.0)
                family = [replace(drawn, scale=scale) for scale in self.scales]
            if family:
                yield f"{type(policy).__name__}, {name}", family


def at(policy: P, knob: str, value: float) -> P:
    """The policy with another value of a knob; where it has one for each modality, the same for all.

    Args:
      knob: name of the setting; `base.NAME`: that of the policy within.

    Raises:
      MdmError: there is no such number among its settings, or it must be whole.
    """
    name, _, within = knob.partition(".")
    known = getattr(policy, name, None)
    if within and known is not None:
        return replace(policy, **{name: at(known, within, value)})
    each = known if isinstance(known, tuple) else (known,)
    if not each or any(isinstance(one, bool) or not isinstance(one, int | float) for one in each):
        raise MdmError(f"{type(policy).__name__} has no number {name!r} to sweep")
    if isinstance(each[0], int) and value != int(value):
        raise MdmError(f"{name} is a whole number, got {value:g}")
    number = type(each[0])(value)
    return replace(policy, **{name: (number,) if isinstance(known, tuple) else number})


def all_prices(run: str | Path) -> list[float]:
    """Prices between the least and the largest that a run has learned at."""
    return [float(price) for price in np.geomspace(*price_range(run), PRICES).round(4)]
