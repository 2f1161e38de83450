"""Penalties of released systems: on late positions, on fine codebooks, on tokens already used."""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.errors import check_range
from mdm_jax.policies.base import Clock, Policy, PolicyState, Scores, adjust_logits
from mdm_jax.policies.count_schedules import CountRule
from mdm_jax.policies.heuristics import Scheduled
from mdm_jax.policies.mask_git import MaskGit
from mdm_jax.policies.wrapping import Wrapping
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Count, Decision, Logits, Mask, Observation, RowKey


@pytree_dataclass
class PositionPenalty(Wrapping):
    """`base`, shown logits that are divided by a factor which rises towards the tail.

    The first `free` masked positions have the factor 1; over the others it rises evenly, and would be
    `penalty` at the one after the last. So where many positions are masked, which is early, the tail
    looks unsure. Tokens are drawn as before.

    Reference: the code of Omni-Diffusion, arXiv:2603.06577, with 2 and 100. It divides positive logits
    and multiplies negative ones, so that adding a number to all logits would change the order.
    """

    base: Policy
    penalty: float = 2.0  # what the logits at the end are divided by
    free: int = 100  # masked positions at the front that have none

    def __post_init__(self) -> None:
        check_range("penalty", self.penalty, 1)
        check_range("free", self.free, 0)

    def adjust_logits(
        self, logits: Logits, is_masked: Mask, clock: Clock, state: PolicyState
    ) -> tuple[Logits, PolicyState]:
        """Those of `base`."""
        return adjust_logits(self.base, logits, is_masked, clock, state)

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        shown = observation.logits / self.factors(observation.is_masked)[:, None]
        return self.base(key, observation._replace(logits=shown), state)

    def factors(self, is_masked: Mask) -> Float[Array, " length"]:
        """What the logits of each position are divided by."""
        before = jnp.cumsum(is_masked) - 1 - self.free
        late = jnp.maximum(jnp.sum(is_masked) - self.free, 1)
        return 1.0 + (self.penalty - 1.0) * jnp.clip(before / late, 0.0, 1.0).astype(jnp.float32)


@pytree_dataclass
class CodebookPenalty(Scheduled):
    """Highest score of `base` - penalty * level first: what is coarse before what is fine.

    With `base` at a constant temperature of 5 it is the rule of OmniVoice, arXiv:2604.00688, where the
    level is the number of the codebook and the penalty 5. Here it is the number of the modality.
    """

    wants_window: ClassVar[bool] = True  # levels are those of the whole window

    base: MaskGit
    levels: Int[Array, " length"]  # of each position, from 0
    penalty: float = 5.0  # nats of each level

    def __post_init__(self) -> None:
        check_range("penalty", self.penalty, 0)

    @property
    def steps(self) -> int | Count:
        """Those of `base`."""
        return self.base.steps

    @property
    def schedule(self) -> CountRule:
        """That of `base`."""
        return self.base.schedule

    def score(self, key: RowKey, observation: Observation) -> Scores:
        return self.base.score(key, observation) - self.penalty * self.levels


class Seen(NamedTuple):
    """What a policy remembers of the ids that it has revealed, beside the memory of its base."""

    ids: Bool[Array, " vocab"]
    of_base: PolicyState


@pytree_dataclass
class RepetitionPenalty(Wrapping):
    """`base`, on log-probabilities that are multiplied by `penalty` for ids that it has revealed.

    Tokens are drawn from these as well. Ids of the prompt do not count.
    Reference: CTRL, arXiv:1909.05858, section 4.1, as Omni-Diffusion, arXiv:2603.06577, has it for speech
    (1.2). On logits, as in both, the effect would depend on a number added to all of them.
    """

    base: Policy
    vocab: int = static()  # columns of the denoiser's logits
    penalty: float = 1.2  # 1: none
    first_id: int = 0  # of the ids that it applies to
    ids: int = 2**31 - 1  # how many these are

    def __post_init__(self) -> None:
        check_range("penalty", self.penalty, 1)

    def init(self, length: int) -> PolicyState:
        """No id, and the memory of `base`."""
        return Seen(jnp.zeros(self.vocab, bool), self.base.init(length))

    def adjust_logits(
        self, logits: Logits, is_masked: Mask, clock: Clock, state: PolicyState
    ) -> tuple[Logits, PolicyState]:
        """The logits that tokens are drawn from."""
        logits, of_base = adjust_logits(self.base, logits, is_masked, clock, state.of_base)
        number = jnp.arange(self.vocab) - self.first_id
        again = state.ids & (number >= 0) & (number < self.ids)
        log_probs = jax.nn.log_softmax(logits, axis=-1)
        return jnp.where(again, self.penalty * log_probs, log_probs), state._replace(
            of_base=of_base
        )

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        decision, of_base = self.base(key, observation, state.of_base)
        revealed = decision.unmask & observation.eligible
        ids = state.ids.at[observation.proposal].max(revealed)
        return decision, Seen(ids, of_base)
