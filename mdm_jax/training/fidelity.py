"""Training an adaptive policy by the fidelity of its orders: the update, and what is kept."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mdm_jax.denoisers.base import Denoise
from mdm_jax.orders.fidelity.config import VineParts
from mdm_jax.orders.fidelity.evaluation import (
    HeldOut,
    Kept,
    fidelities,
    keep_better,
    prices_between,
    score,
)
from mdm_jax.orders.fidelity.returns import Fidelity
from mdm_jax.orders.fidelity.vine import VineBatch, vine_loss
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.policies.base import stack
from mdm_jax.training.loop import Row, Update
from mdm_jax.training.state import Metrics, TrainState, train_step
from mdm_jax.types import RowKey


def fidelity_update(
    policy: AdaptivePolicy,
    denoise: Denoise,
    parts: VineParts,
    optimizer: optax.GradientTransformation,
    ema_decay: float = 0.99,
) -> Update:
    """One update by the gradient of `vine_loss`, compiled once."""

    @jax.jit
    def update(
        state: TrainState, key: RowKey, batch: VineBatch, denoise: Denoise
    ) -> tuple[TrainState, Metrics]:
        loss = partial(vine_loss, policy=policy, denoise=denoise, parts=parts)
        return train_step(state, key, batch, loss=loss, optimizer=optimizer, ema_decay=ema_decay)

    return partial(update, denoise=denoise)


class BestParameters:
    """The averaged parameters with the highest held-out score so far; for `Services.evaluate`.

    The parameters before training count as well, so what is kept is never worse than the start there.
    """

    def __init__(
        self,
        policy: AdaptivePolicy,
        data: HeldOut,
        denoise: Denoise,
        parts: VineParts,
        prices: int = 8,
    ):
        """
        Args:
          policy: before training.
          prices: how many, evenly spaced in logs over `parts.config.prices`.
        """
        self._policy, self._parts = policy, parts
        self.prices = prices_between(*parts.config.prices, prices)
        self._measure = partial(
            jax.jit(partial(fidelities, parts=parts)), data=data, denoise=denoise
        )
        self._kept = Kept(policy.params, self._score(self.measure(policy.params)))

    @property
    def policy(self) -> AdaptivePolicy:
        """The policy at the parameters that are kept."""
        return replace(self._policy, params=self._kept.params)

    def measure(self, params: Any) -> Fidelity:
        """Held-out fidelity at each price."""
        policy = replace(self._policy, params=params)
        policies = stack([replace(policy, price=float(price)) for price in self.prices])
        return self._measure(policies)

    def _score(self, found: Fidelity) -> jax.Array:
        return score(found, self.prices, self._parts.config.price_offset)

    def __call__(self, state: TrainState, row: Row) -> Row:
        """Score the averaged parameters, keep them if they are better; the row of metrics."""
        found = self.measure(state.ema)
        now = self._score(found)
        self._kept = keep_better(self._kept, state.ema, now)
        means = {f"heldout_{name}": jnp.mean(getattr(found, name)) for name in ("overlap", "calls")}
        return {name: float(x) for name, x in (means | {"heldout_score": now}).items()}
