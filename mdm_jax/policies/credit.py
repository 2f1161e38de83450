"""CreditDecoding: tokens that have been likely for several calls count as likelier."""

import jax
import jax.numpy as jnp

from mdm_jax.errors import check_range
from mdm_jax.policies.base import Clock, PolicyState, RevealOnly
from mdm_jax.policies.heuristics import ConfidenceThreshold
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Decision, Logits, Mask, Observation, RowKey


@pytree_dataclass
class CreditDecoding:
    """The decision of `base` on logits with credit, from which tokens are drawn as well.

    At each call the credit of every token at a masked position is multiplied by `decay`, and the most
    probable token gets p^power more, p being its probability. Its logit then rises by
    alpha log(1 + credit). alpha 0 is `base`.

    Reference: CreditDecoding, arXiv:2510.06133, in the form of the code of dInfer. Credit is gathered at
    all masked positions that the policy is shown, not only in the current block: a reading of the rule.
    """

    vocab: int = static()  # columns of the denoiser's logits
    base: RevealOnly = ConfidenceThreshold(0.9)
    alpha: float = 0.7  # weight of credit
    power: float = 0.2  # of a probability that becomes credit; gamma in the paper
    decay: float = 0.8  # of credit from call to call; beta in the paper

    def __post_init__(self) -> None:
        check_range("alpha", self.alpha, 0)
        check_range("power", self.power, 0)
        check_range("decay", self.decay, 0, 1)

    def init(self, length: int) -> PolicyState:
        """Credit of each token at each position."""
        return jnp.zeros((length, self.vocab), jnp.float32)

    def adjust_logits(
        self, logits: Logits, is_masked: Mask, clock: Clock, state: PolicyState
    ) -> tuple[Logits, PolicyState]:
        """The logits with credit, and the credit."""
        probs = jax.nn.softmax(logits, axis=-1)
        is_best = jnp.arange(self.vocab) == jnp.argmax(probs, axis=-1, keepdims=True)
        earned = jnp.where(is_best & is_masked[:, None], probs**self.power, 0.0)
        credit = jnp.where(is_masked[:, None], self.decay * state, 0.0) + earned
        return logits + self.alpha * jnp.log1p(credit), credit

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        decision, _ = self.base(key, observation, ())
        return decision, state
