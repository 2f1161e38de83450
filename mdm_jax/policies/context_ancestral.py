"""Ancestral sampling of a diffusion whose masking rates depend on the context: LoMDM."""

from typing import ClassVar

import jax
import jax.numpy as jnp

from mdm_jax.diffusion.context_rates import OF_CANVAS, ContextRates
from mdm_jax.errors import check_range
from mdm_jax.policies.base import Clock, PolicyState
from mdm_jax.policies.remasking.remdm import times
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Decision, Observation, RowKey, Scalar


@pytree_dataclass
class ContextAncestral:
    """The reverse process in `steps` steps of equal time, from 1 to 0 in each block.

    From time t to s a masked position is revealed with probability 1 - (s/t)^v, where v is read off the
    hidden states of the denoiser that the rates were learned with. When does not depend on what: tokens
    are drawn as they are anywhere. Exact with the optimal v and mu of `diffusion.context_rates`, at
    temperature 1 and top_p 1, in the limit of many steps. A step may reveal nothing.

    Reference: LoMDM, arXiv:2602.02112.
    """

    wants_window: ClassVar[bool] = True
    wants_hidden: ClassVar[bool] = True

    rates: ContextRates
    steps: int = 8  # denoiser calls in all

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)

    def init(self, length: int) -> PolicyState:
        return ()

    def time(self, clock: Clock) -> Scalar:
        """Of the canvas that the denoiser is shown."""
        return times(self.steps, clock)[0]

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        t, s = times(self.steps, observation)
        exponents = self.rates.read(OF_CANVAS, observation.hidden).exponents[:, 0]
        stays = jnp.exp(exponents * jnp.log(s / t))
        noise = jax.random.uniform(key, stays.shape, jnp.float32)
        unmask = observation.eligible & (noise >= stays)
        return Decision(unmask=unmask, remask=jnp.zeros_like(unmask)), state
