"""Keeping the parameters of a policy with a price that are best on held-out data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax.numpy as jnp

from mdm_jax.orders.fidelity.evaluation import Prices
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.policies.base import stack
from mdm_jax.training.loop import Row
from mdm_jax.training.state import Params, TrainState
from mdm_jax.types import Scalar


@dataclass(frozen=True, eq=False)
class HeldOutMonitor:
    """Keeps the averaged parameters of the best score on held-out data; for `Services.evaluate`.

    Parameters before training count as well, so what is kept is never worse than the start there.

    Attributes:
      policy: before training.
      prices: at which it is measured.
      measure: of a stack of policies; a NamedTuple of arrays [prices].
      score: one number from what was measured.
      logged: the rows of metrics of earlier updates.
      keep: saves the state at the best score so far.
    """

    policy: AdaptivePolicy
    prices: Prices
    measure: Callable[[AdaptivePolicy], Any]
    score: Callable[[Any], Scalar]
    logged: Callable[[], Sequence[Mapping[str, float]]]
    keep: Callable[[TrainState], None]

    def measured(self, params: Params) -> Any:
        """What these parameters reach at each price."""
        policy = replace(self.policy, params=params)
        return self.measure(stack([replace(policy, price=float(one)) for one in self.prices]))

    def __call__(self, state: TrainState, row: Row) -> Row:
        """Score the averaged parameters, keep them if they are the best so far; columns of metrics."""
        found = self.measured(state.ema["policy"])
        now = float(self.score(found))
        earlier = [row["heldout_score"] for row in self.logged() if "heldout_score" in row]
        if now > max(self._start_score, *earlier, -jnp.inf):
            self.keep(state)
        means = {f"heldout_{name}": float(jnp.mean(x)) for name, x in found._asdict().items()}
        return means | {"heldout_score": now}

    @cached_property
    def _start_score(self) -> float:
        """Of the policy as it is given: before training."""
        return float(self.score(self.measured(self.policy.params)))
