"""What is optimised when an order is learned, and how it is annealed over the run."""

from dataclasses import dataclass

import jax.numpy as jnp

from mdm_jax.errors import check_range
from mdm_jax.orders.variational.elbo import Weights
from mdm_jax.types import Scalar


@dataclass(frozen=True, kw_only=True)
class OrderObjective:
    """Weights of the objective, and how they are annealed. The bound itself: beta_kl 1, all else 0.

    Attributes:
      samples: paths of each sequence (K of the leave-one-out baseline).
      temperature: of the posterior at the end of the annealing.
      start_temperature: and at its start; None: the same throughout.
      beta_kl: weight of KL(posterior || policy) at the end of the annealing.
      start_beta_kl: and at its start; None: the same throughout. Small, it lets the posterior move
        before the policy has followed.
      entropy: weight of the posterior's entropy at the start, annealed to 0.
      step_cost: nats charged for every step that is taken, so that finishing early pays.
      anneal: share of the run over which temperature (geometrically), beta_kl and entropy
        (linearly) move.
      predicted_nll: whether the -log p(token) of each position is predicted and subtracted in the
        gradient, which takes noise out of it.
    """

    samples: int = 8
    temperature: float = 0.1
    start_temperature: float | None = None
    beta_kl: float = 1.0
    start_beta_kl: float | None = None
    entropy: float = 0.0
    step_cost: float = 0.0
    anneal: float = 0.7
    predicted_nll: bool = True

    def __post_init__(self) -> None:
        check_range("samples", self.samples, 2)  # of the leave-one-out baseline
        for name in ("temperature", "start_temperature"):
            check_range(name, getattr(self, name), above=0)
        for name in ("beta_kl", "start_beta_kl", "entropy", "step_cost"):
            check_range(name, getattr(self, name), 0)
        check_range("anneal", self.anneal, above=0, high=1)

    def temperature_at(self, progress: Scalar) -> Scalar:
        """Geometric from start to end."""
        start = self.start_temperature or self.temperature
        share = jnp.minimum(progress / self.anneal, 1.0)
        return start * (self.temperature / start) ** share

    def weights_at(self, progress: Scalar) -> Weights:
        """The weights at some point of the run."""
        left = jnp.maximum(1.0 - progress / self.anneal, 0.0)
        start = self.beta_kl if self.start_beta_kl is None else self.start_beta_kl
        beta_kl = self.beta_kl + (start - self.beta_kl) * left
        return Weights(beta_kl, self.entropy * left, jnp.asarray(self.step_cost))
