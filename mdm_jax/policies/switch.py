"""Several policies as one: a zoo that compiles once."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mdm_jax.policies.base import Policy, PolicyState
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Decision, Observation, RowKey


@pytree_dataclass
class SwitchPolicy:
    """The policy `members[index]`, chosen at run time, not at compile time; see `as_switch`."""

    members: tuple[Policy, ...]
    index: int | Int[Array, ""]

    @property
    def chosen(self) -> Policy:
        """The member that acts."""
        return self.members[int(self.index)]

    @property
    def wants_hidden(self) -> bool:
        """Whether any member looks at the denoiser's hidden states."""
        return any(getattr(member, "wants_hidden", False) for member in self.members)

    @property
    def wants_verifier(self) -> bool:
        """Whether any member asks the denoiser to judge the tokens that it has revealed."""
        return any(getattr(member, "wants_verifier", False) for member in self.members)

    @property
    def wants_window(self) -> bool:
        """Whether any member looks at more than the current block."""
        return any(getattr(member, "wants_window", True) for member in self.members)

    def init(self, length: int) -> PolicyState:
        return tuple(member.init(length) for member in self.members)

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        def act(place: int) -> tuple[Decision, PolicyState]:
            decision, new = self.members[place](key, observation, state[place])
            return decision, (*state[:place], new, *state[place + 1 :])

        branches = [lambda place=place: act(place) for place in range(len(self.members))]
        return jax.lax.switch(jnp.asarray(self.index), branches)


def as_switch(policies: tuple[Policy, ...]) -> list[SwitchPolicy]:
    """Each policy as a `Choice` among one member per kind, so that all share one compiled program.

    Raises:
      ValueError: there are no policies.
    """
    if not policies:
        raise ValueError("need at least one policy")
    kinds = list(dict.fromkeys(jax.tree.structure(policy) for policy in policies))
    firsts = [next(p for p in policies if jax.tree.structure(p) == kind) for kind in kinds]

    def as_member(policy: Policy) -> SwitchPolicy:
        place = kinds.index(jax.tree.structure(policy))
        return SwitchPolicy((*firsts[:place], policy, *firsts[place + 1 :]), place)

    return [as_member(policy) for policy in policies]
