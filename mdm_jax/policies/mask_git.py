"""MaskGIT's choice of positions: log-confidence with Gumbel noise that fades from call to call."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Float

from mdm_jax.errors import check_range
from mdm_jax.policies.base import Scores, confidence
from mdm_jax.policies.count_schedules import AlphaCounts, CountRule
from mdm_jax.policies.heuristics import Scheduled, steps_per_block
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Count, Observation, RowKey


@runtime_checkable
class Annealing(Protocol):
    """How noise fades over `steps` steps. Hashable, so that it may be static."""

    def share(self, step: Count, steps: Count) -> Float[Array, ""]:
        """The share of the noise that is left at `step`, which counts from 0."""
        ...


@dataclass(frozen=True)
class Constant:
    """The same noise at every step, as in Lumina-DiMOO and OmniVoice."""

    def share(self, step: Count, steps: Count) -> Float[Array, ""]:
        return jnp.ones((), jnp.float32)

    def __str__(self) -> str:
        return "constant"


@dataclass(frozen=True)
class Fading:
    """1 - (step + 1) / steps: none at the last step. MaskGIT, arXiv:2202.04200."""

    def share(self, step: Count, steps: Count) -> Float[Array, ""]:
        return jnp.maximum(1.0 - (step + 1) / steps, 0.0).astype(jnp.float32)

    def __str__(self) -> str:
        return "fading"


@dataclass(frozen=True)
class Compounded:
    """The product of the fading shares of all steps so far.

    The code of Show-o and, after it, MMaDA multiplies the temperature by 1 - (step + 1) / steps and
    keeps the product for the next step. By half of the steps almost no noise is left. For comparison.
    """

    def share(self, step: Count, steps: Count) -> Float[Array, ""]:
        done, steps = jnp.minimum(step + 1, steps) * 1.0, steps * 1.0
        # (steps - 1) (steps - 2) ... (steps - done) / steps^done; gammaln(0) is infinite
        log_share = gammaln(steps) - gammaln(steps - done) - done * jnp.log(steps)
        return jnp.exp(log_share).astype(jnp.float32)

    def __str__(self) -> str:
        return "compounded"


@pytree_dataclass
class MaskGit(Scheduled):
    """Highest log c + policy_temperature * share * Gumbel noise first, c being the confidence.

    At the temperature 0 `TopConfidence`, with the scores on a logarithmic scale.
    Reference: MaskGIT, arXiv:2202.04200, and its code, where 4.5 is the temperature and the probability
    is that of the drawn token; here it is the largest one, as for all policies.
    """

    steps: int = 8  # denoiser calls in all
    schedule: CountRule = static(AlphaCounts())  # how many positions each reveals
    policy_temperature: float = 4.5  # of the noise at the start
    annealing: Annealing = static(Fading())  # how the noise fades from call to call

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)
        check_range("policy_temperature", self.policy_temperature, 0)

    def score(self, key: RowKey, observation: Observation) -> Scores:
        scores = jnp.log(confidence(observation.logits))
        steps = steps_per_block(self.steps, observation)
        left = self.policy_temperature * self.annealing.share(observation.block_step, steps)
        return scores + left * jax.random.gumbel(key, scores.shape, jnp.float32, mode="high")
