"""Policies of which some knobs are given; a run, a denoiser or a task fills in the others."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdm_jax.denoisers.base import Denoise, hidden_width, logit_columns
from mdm_jax.errors import MdmError, check_range
from mdm_jax.external_files import expand
from mdm_jax.policies import credit, klass, pc_sampler, randomised
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.policies.base import Policy
from mdm_jax.policies.count_schedules import CountRule, LinearCounts
from mdm_jax.policies.heuristics import (
    ConfidenceThreshold,
    LeftToRight,
    LowEntropy,
    TopConfidence,
    TopMargin,
)
from mdm_jax.policies.learned import Fallback, LearnedPolicy
from mdm_jax.policies.pairwise.predicted import PredictedPairs
from mdm_jax.runs.adaptive import check_price, price_range, price_reaching
from mdm_jax.runs.genmd4_policy import Genmd4
from mdm_jax.runs.policies import FromRun, check_shape, load_policy
from mdm_jax.runs.stream_policies import (
    CodebookPenalty,
    PerModality,
    PositionPenalty,
    RepetitionPenalty,
)
from mdm_jax.tasks.base import Task

BATCHES, BATCH_SIZE = 20, 64  # of clean sequences whose tokens are counted


@dataclass(frozen=True)
class Perturbed:
    """The best of another policy's scores with Gumbel noise: Dream's `alg_temp`."""

    base: TopConfidence | TopMargin | LowEntropy | LeftToRight = field(
        default_factory=TopConfidence
    )  # whose scores and counts
    policy_temperature: float = 0.1  # 0: what the base reveals

    def __post_init__(self) -> None:
        check_range("policy_temperature", self.policy_temperature, 0)

    def load(self, run: str | Path, denoise: Denoise, task: Task) -> randomised.Perturbed:
        """The policy; nothing is missing."""
        return randomised.Perturbed(self.base, self.policy_temperature)


@dataclass(frozen=True)
class Klass:
    """Confident positions whose distribution has not changed lately. KLASS, arXiv:2511.05664."""

    confidence_threshold: float = 0.6
    kl_threshold: float = 0.015  # between successive distributions, nats
    history: int = 2  # consecutive calls below kl_threshold

    def __post_init__(self) -> None:
        self._for_vocabulary(1)

    def load(self, run: str | Path, denoise: Denoise, task: Task) -> klass.Klass:
        """The policy for as many columns as the denoiser's logits have."""
        return self._for_vocabulary(logit_columns(denoise, task.length))

    def _for_vocabulary(self, vocab: int) -> klass.Klass:
        return klass.Klass(vocab, self.confidence_threshold, self.kl_threshold, self.history)


@dataclass(frozen=True)
class CreditDecoding:
    """A confidence threshold on logits that credit tokens for having been likely. arXiv:2510.06133."""

    threshold: float = 0.9  # least confidence of what is revealed together
    alpha: float = 0.7  # weight of credit; 0: none
    power: float = 0.2  # of a probability that becomes credit
    decay: float = 0.8  # of credit from call to call

    def __post_init__(self) -> None:
        self._for_vocabulary(1)

    def load(self, run: str | Path, denoise: Denoise, task: Task) -> credit.CreditDecoding:
        """The policy for as many columns as the denoiser's logits have."""
        return self._for_vocabulary(logit_columns(denoise, task.length))

    def _for_vocabulary(self, vocab: int) -> credit.CreditDecoding:
        base = ConfidenceThreshold(self.threshold)
        return credit.CreditDecoding(vocab, base, self.alpha, self.power, self.decay)


@dataclass(frozen=True)
class PcSampler:
    """Confidence corrected for common tokens and late positions. PC-Sampler, arXiv:2508.13021."""

    frequencies: str | None = None  # .npy file of token counts; None: count the training sequences
    steps: int = 8  # denoiser calls for a sequence
    schedule: CountRule = field(default_factory=LinearCounts)  # how many positions each reveals
    decay: float = 0.25  # of the preference, from one position to the next
    ceiling: float = 10.0  # largest corrected confidence, nats

    def __post_init__(self) -> None:
        self._with_shares(jnp.ones(1))

    def load(self, run: str | Path, denoise: Denoise, task: Task) -> pc_sampler.PcSampler:
        """The policy with the token frequencies of a corpus.

        Raises:
          MdmError: the file does not hold one count for each id.
        """
        counts = _token_counts(task) if self.frequencies is None else _read_counts(self.frequencies)
        size = task.vocabulary.size
        if counts.shape != (size,) or counts.min() < 0 or not 0 < counts.sum() < np.inf:
            raise MdmError(
                f"{self.frequencies} must hold {size} token counts, got shape {counts.shape}"
            )
        return self._with_shares(jnp.asarray(counts / counts.sum(), jnp.float32))

    def _with_shares(self, shares: Float[Array, " vocab"]) -> pc_sampler.PcSampler:
        return pc_sampler.PcSampler(shares, self.steps, self.schedule, self.decay, self.ceiling)


@dataclass(frozen=True)
class Learned:
    """The policy of a learn_order, learn_variational_order, learn_policy or learn_pairs run."""

    run: str | None = None  # its run directory; None: that of --run
    steps: int | None = None  # denoiser calls for a sequence; None: as it was trained
    # of the draw of positions; 0: the most probable set; None: as in the run's own comparison
    policy_temperature: float | None = None
    scale: float = 1.0  # probabilities become min(1, scale * probability)
    fallback: Fallback = "best"  # an empty draw reveals the best position, or spends the call
    # of a denoiser call, where the policy has learned at prices: the lower, the more calls; None: 0.05,
    # or the nearest that it has learned at
    price: float | None = None
    calls: float | None = None  # in place of a price: the one with this many calls on average
    overlap: float | None = None  # or the one that keeps this much of sequential decoding
    allowance: float | None = None  # of dependence in one call, of learn_pairs alone

    def __post_init__(self) -> None:
        check_range("price", self.price, 0)
        check_range("calls", self.calls, 1)
        check_range("allowance", self.allowance, 0)
        check_range("overlap", self.overlap, above=0, high=1)
        if sum(knob is not None for knob in (self.price, self.calls, self.overlap)) > 1:
            raise MdmError("give one of --policy.price, --policy.calls and --policy.overlap")
        check_range("steps", self.steps, 1)
        check_range("policy_temperature", self.policy_temperature, 0)
        check_range("scale", self.scale, 0)

    def load(self, run: str | Path, denoise: Denoise, task: Task) -> FromRun:
        """The policy with its weights, for this denoiser on this task.

        Args:
          run: run directory to use when `self.run` is None.

        Raises:
          MdmError: no such run, no readable checkpoint, or the policy needs canvases or hidden states
            of another shape.
          ValueError: a knob out of range.
        """
        home = self.run or run
        policy = load_policy(home, task)
        check_shape(policy, home, task)
        if isinstance(policy, PredictedPairs):
            return self._with_allowance(policy, home, denoise)
        if self.allowance is not None:
            raise MdmError(f"{home} predicts no dependence: leave out --policy.allowance")
        chosen = {"steps": self.steps, "policy_temperature": self.policy_temperature}
        knobs = {name: value for name, value in chosen.items() if value is not None}
        if isinstance(policy, AdaptivePolicy):
            return self._with_price(policy, knobs, home, denoise)
        for name in ("price", "calls", "overlap"):
            if getattr(self, name) is not None:
                raise MdmError(f"{home} learned at no price: leave out --policy.{name}")
        _check_hidden(policy, home, denoise)
        return replace(policy, scale=self.scale, fallback=self.fallback, **knobs)

    def _with_allowance(
        self, policy: PredictedPairs, home: str | Path, denoise: Denoise
    ) -> PredictedPairs:
        if replace(self, run=None, allowance=None) != Learned():
            raise MdmError(f"{home} predicts dependence, and its one knob is --policy.allowance")
        _check_hidden(policy, home, denoise)
        allowance = policy.rule.allowance if self.allowance is None else self.allowance
        return replace(policy, rule=replace(policy.rule, allowance=allowance))

    def _with_price(
        self,
        policy: AdaptivePolicy,
        knobs: dict[str, int | float],
        home: str | Path,
        denoise: Denoise,
    ) -> AdaptivePolicy:
        if (self.scale, self.fallback) != (1.0, "best"):
            raise MdmError(
                "a policy with a price has no --policy.scale and no --policy.fallback: change its price"
            )
        if self.price is None:
            low, high = price_range(home)
            price = min(max(policy.price, low), high)
        else:
            check_price(home, self.price)
            price = self.price
        if self.calls is not None or self.overlap is not None:
            wanted = {"calls": self.calls, "overlap": self.overlap}
            price = price_reaching(home, policy, denoise, **wanted)
        return replace(policy, price=price, **knobs)


def _check_hidden(
    policy: LearnedPolicy | PredictedPairs, home: str | Path, denoise: Denoise
) -> None:
    """Raise MdmError where the denoiser's hidden states are of another width than those learned from."""
    seen, given = policy.network.hidden_features(policy.params), hidden_width(denoise)
    if seen not in (None, given):
        raise MdmError(
            f"{home} learned from {seen} hidden features, but the denoiser gives {given}"
        )


Spec = (
    Learned
    | Klass
    | CreditDecoding
    | PcSampler
    | Perturbed
    | Genmd4
    | PerModality
    | PositionPenalty
    | CodebookPenalty
    | RepetitionPenalty
)


def resolve(policy: Policy | Spec, run: str | Path, denoise: Denoise, task: Task) -> Policy:
    """The policy, with what its spec leaves out filled in for a denoiser and a task."""
    return policy.load(run, denoise, task) if isinstance(policy, Spec) else policy


def _read_counts(path: str) -> np.ndarray:
    """The numbers of a .npy file."""
    try:
        return np.load(expand(path)).astype(float)
    except (ValueError, AttributeError) as error:  # AttributeError: an archive of arrays
        raise MdmError(f"{path} is no .npy file of token counts ({error})") from error


def _token_counts(task: Task) -> Float[np.ndarray, " vocab"]:
    """How often each id occurs at maskable positions of the task's training sequences."""
    counts = np.zeros(task.vocabulary.size)
    for step in range(BATCHES):
        batch = task.train_batch(0, step, BATCH_SIZE)
        counts += np.bincount(batch.tokens[batch.maskable], minlength=len(counts))[: len(counts)]
    return counts
