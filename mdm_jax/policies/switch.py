"""Several policies as one pytree, so that all of them compile once."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mdm_jax.policies.base import (
    Clock,
    Policy,
    PolicyState,
    adjust_logits,
    wants_dependence,
    wants_hidden,
    wants_lookahead,
    wants_verifier,
    wants_window,
)
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Decision, Logits, Mask, Observation, RowKey


@pytree_dataclass
class SwitchPolicy:
    """The policy `members[index]`, chosen at run time, not at compile time; see `as_switch`."""

    members: tuple[Policy, ...]
    index: int | Int[Array, ""]

    @property
    def chosen(self) -> Policy:
        """The member that decides."""
        return self.members[int(self.index)]

    @property
    def wants_hidden(self) -> bool:
        """Whether any member does."""
        return any(wants_hidden(member) for member in self.members)

    @property
    def wants_verifier(self) -> bool:
        """Whether any member does."""
        return any(wants_verifier(member) for member in self.members)

    @property
    def wants_dependence(self) -> bool:
        """Whether any member does."""
        return any(wants_dependence(member) for member in self.members)

    @property
    def wants_lookahead(self) -> bool:
        """Whether any member does."""
        return any(wants_lookahead(member) for member in self.members)

    @property
    def wants_window(self) -> bool:
        """Whether any member does."""
        return any(wants_window(member) for member in self.members)

    def init(self, length: int) -> PolicyState:
        return tuple(member.init(length) for member in self.members)

    def adjust_logits(
        self, logits: Logits, is_masked: Mask, clock: Clock, state: PolicyState
    ) -> tuple[Logits, PolicyState]:
        """As the member that decides does it."""
        if not any(hasattr(member, "adjust_logits") for member in self.members):
            return logits, state

        def adjust(i: int) -> tuple[Logits, PolicyState]:
            adjusted, new = adjust_logits(self.members[i], logits, is_masked, clock, state[i])
            return adjusted, (*state[:i], new, *state[i + 1 :])

        branches = [partial(adjust, i) for i in range(len(self.members))]
        return jax.lax.switch(jnp.asarray(self.index), branches)

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        def decide(i: int) -> tuple[Decision, PolicyState]:
            decision, new = self.members[i](key, observation, state[i])
            extra = jnp.asarray(decision.extra_calls, jnp.int32)
            return decision._replace(extra_calls=extra), (*state[:i], new, *state[i + 1 :])

        branches = [partial(decide, i) for i in range(len(self.members))]
        return jax.lax.switch(jnp.asarray(self.index), branches)


def as_switch(policies: tuple[Policy, ...]) -> list[SwitchPolicy]:
    """Each policy as a `SwitchPolicy` with one member per kind, so that all share one compiled program.

    Two policies are of one kind if their pytrees have the same structure.

    Raises:
      ValueError: there are no policies.
    """
    if not policies:
        raise ValueError("need at least one policy")
    kinds = list(dict.fromkeys(jax.tree.structure(policy) for policy in policies))
    firsts = [next(p for p in policies if jax.tree.structure(p) == kind) for kind in kinds]

    def as_member(policy: Policy) -> SwitchPolicy:
        i = kinds.index(jax.tree.structure(policy))
        return SwitchPolicy((*firsts[:i], policy, *firsts[i + 1 :]), i)

    return [as_member(policy) for policy in policies]
