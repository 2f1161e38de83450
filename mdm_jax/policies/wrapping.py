"""Base of policies that change what another one is shown."""

from mdm_jax.policies.base import (
    Clock,
    Policy,
    PolicyState,
    time_of,
    wants_dependence,
    wants_hidden,
    wants_lookahead,
    wants_verifier,
    wants_window,
)
from mdm_jax.types import Scalar


class Wrapping:
    """A policy around `base` that asks the sampler for what `base` asks for."""

    base: Policy

    @property
    def wants_window(self) -> bool:
        """Whether `base` does."""
        return wants_window(self.base)

    @property
    def wants_hidden(self) -> bool:
        """Whether `base` does."""
        return wants_hidden(self.base)

    @property
    def wants_verifier(self) -> bool:
        """Whether `base` does."""
        return wants_verifier(self.base)

    @property
    def wants_dependence(self) -> bool:
        """Whether `base` does."""
        return wants_dependence(self.base)

    @property
    def wants_lookahead(self) -> bool:
        """Whether `base` does."""
        return wants_lookahead(self.base)

    def time(self, clock: Clock) -> Scalar | None:
        """That of `base`."""
        return time_of(self.base, clock)

    def init(self, length: int) -> PolicyState:
        """The memory of `base`."""
        return self.base.init(length)
