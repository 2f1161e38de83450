"""Ancestral sampling of a diffusion whose masking rates depend on the token: GenMD4."""

from typing import ClassVar

import jax
import jax.numpy as jnp

from mdm_jax.diffusion.rates import Rates, reveal_logits
from mdm_jax.errors import check_range
from mdm_jax.policies.base import Clock, PolicyState
from mdm_jax.policies.remasking.remdm import times
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Decision, Logits, Mask, Observation, RowKey, Scalar


@pytree_dataclass
class RatedAncestral:
    """The reverse process in `steps` steps of equal time, from 1 to 0 in each block.

    From time t to s a masked position is revealed as v with probability mu_t(v) (1 - (s/t)^w_v). When and
    what depend on each other: each position is revealed with probability 1 - sum_v mu_t(v) (s/t)^w_v, and
    its token is drawn from mu_t tilted to those that are revealed early. Exact with an exact denoiser, at
    temperature 1 and top_p 1, in the limit of many steps. A step may reveal nothing.

    Reference: MD4, arXiv:2406.04329, Eq. 11; its released code does not sample from GenMD4.
    """

    wants_window: ClassVar[bool] = True

    rates: Rates
    steps: int = 8  # denoiser calls in all

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)

    def init(self, length: int) -> PolicyState:
        """The probability that each position is revealed now."""
        return jnp.zeros(length, jnp.float32)

    def time(self, clock: Clock) -> Scalar:
        """Of the canvas that the denoiser is shown."""
        return times(self.steps, clock)[0]

    def adjust_logits(
        self, logits: Logits, is_masked: Mask, clock: Clock, state: PolicyState
    ) -> tuple[Logits, PolicyState]:
        """What the token of each position is if it is revealed now."""
        return reveal_logits(self.rates, logits, *times(self.steps, clock))

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        noise = jax.random.uniform(key, state.shape, jnp.float32)
        unmask = observation.eligible & (noise < state)
        return Decision(unmask=unmask, remask=jnp.zeros_like(unmask)), state
