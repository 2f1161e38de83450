"""A policy whose token temperature is a leaf, so that a sweep over temperatures compiles once."""

import jax.numpy as jnp

from mdm_jax.errors import check_range
from mdm_jax.policies.base import Clock, Policy, PolicyState, adjust_logits
from mdm_jax.policies.wrapping import Wrapping
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Decision, Logits, Mask, Observation, RowKey


@pytree_dataclass
class Tempered(Wrapping):
    """`base`, while tokens are drawn from softmax(logits / token_temperature).

    Under `SamplerConfig.temperature` 1 the generations are those of `base` under that temperature: it is
    shown the denoiser's own logits. `SamplerConfig.temperature` is static, this one is not.
    """

    base: Policy
    token_temperature: float = 1.0

    def __post_init__(self) -> None:
        check_range("token_temperature", self.token_temperature, above=0)

    def adjust_logits(
        self, logits: Logits, is_masked: Mask, clock: Clock, state: PolicyState
    ) -> tuple[Logits, PolicyState]:
        """The logits that tokens are drawn from."""
        adjusted, state = adjust_logits(self.base, logits, is_masked, clock, state)
        return adjusted / self.token_temperature, state

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        own = observation.logits * jnp.asarray(self.token_temperature, jnp.float32)
        return self.base(key, observation._replace(logits=own), state)
