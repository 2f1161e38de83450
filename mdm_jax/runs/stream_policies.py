"""Policies for canvases of several modalities, of which the task says where these are."""

from dataclasses import dataclass, field
from pathlib import Path

import jax.numpy as jnp

from mdm_jax.denoisers.base import Denoise, logit_columns
from mdm_jax.errors import MdmError, check_range
from mdm_jax.policies import penalties, per_modality
from mdm_jax.policies.count_schedules import CountRule, LinearCounts
from mdm_jax.policies.heuristics import (
    ConfidenceThreshold,
    EntropyBound,
    Factor,
    LeftToRight,
    LowEntropy,
    Random,
    TopConfidence,
    TopMargin,
)
from mdm_jax.policies.mask_git import MaskGit
from mdm_jax.streams import Stream
from mdm_jax.tasks.base import Task, full_name, stream_of

AnyScore = TopConfidence | TopMargin | LowEntropy | LeftToRight | Random | MaskGit
AnyBase = TopConfidence | TopMargin | LowEntropy | ConfidenceThreshold | EntropyBound | Factor


@dataclass(frozen=True)
class PerModality:
    """Each modality revealed in its own number of calls, on its own schedule, from its own start."""

    base: AnyScore = field(default_factory=TopConfidence)  # whose score
    steps: tuple[int, ...] = (8,)  # denoiser calls of each modality, or one number for all
    starts: tuple[int, ...] = (0,)  # the call at which each starts, or one number for all
    # how many positions each call reveals, or one for all
    schedules: tuple[CountRule, ...] = (LinearCounts(),)

    def load(self, run: str | Path, denoise: Denoise, task: Task) -> per_modality.PerModality:
        """The policy for the task's modalities.

        Raises:
          MdmError: the task has one modality, or there are not as many settings as modalities.
        """
        stream, given = _stream(task, "per-modality"), {}
        for name in ("steps", "starts", "schedules"):
            values, count = getattr(self, name), len(stream.spans)
            if len(values) not in (1, count):
                raise MdmError(f"--policy.{name} must be 1 or {count} ({', '.join(stream.names)})")
            given[name] = values * (count if len(values) == 1 else 1)
        return per_modality.PerModality(self.base, jnp.asarray(stream.modality), **given)


@dataclass(frozen=True)
class CodebookPenalty:
    """Modalities in their order by a penalty for each further one. OmniVoice, arXiv:2604.00688."""

    base: MaskGit = field(default_factory=MaskGit)  # whose score, with its noise
    penalty: float = 5.0  # nats, for each modality before its own

    def __post_init__(self) -> None:
        check_range("penalty", self.penalty, 0)

    def load(self, run: str | Path, denoise: Denoise, task: Task) -> penalties.CodebookPenalty:
        """The policy for the task's modalities.

        Raises:
          MdmError: the task has one modality.
        """
        levels = jnp.asarray(_stream(task, "codebook-penalty").modality)
        return penalties.CodebookPenalty(self.base, jnp.maximum(levels, 0), self.penalty)


@dataclass(frozen=True)
class PositionPenalty:
    """The tail looks unsure while much is masked. Omni-Diffusion, arXiv:2603.06577."""

    base: AnyBase = field(default_factory=TopConfidence)  # what decides on the changed logits
    penalty: float = 2.0  # what the logits at the end are divided by
    free: int = 100  # masked positions at the front that have none

    def __post_init__(self) -> None:
        check_range("penalty", self.penalty, 1)
        check_range("free", self.free, 0)

    def load(self, run: str | Path, denoise: Denoise, task: Task) -> penalties.PositionPenalty:
        """The policy; nothing is missing."""
        return penalties.PositionPenalty(self.base, self.penalty, self.free)


@dataclass(frozen=True)
class RepetitionPenalty:
    """Tokens that were revealed before become less likely. CTRL, arXiv:1909.05858; Omni-Diffusion."""

    base: AnyBase = field(default_factory=TopConfidence)  # what decides on the changed logits
    penalty: float = 1.2  # factor of their log-probability; 1: none
    modality: str | None = None  # whose tokens; None: all

    def __post_init__(self) -> None:
        check_range("penalty", self.penalty, 1)

    def load(self, run: str | Path, denoise: Denoise, task: Task) -> penalties.RepetitionPenalty:
        """The policy for as many columns as the denoiser's logits have.

        Raises:
          MdmError: the task has no such modality.
        """
        vocab = logit_columns(denoise, task.length)
        if self.modality is None:
            return penalties.RepetitionPenalty(self.base, vocab, self.penalty)
        stream = _stream(task, "--policy.modality")
        if self.modality not in stream.names:
            raise MdmError(f"modality {self.modality} is none of {', '.join(stream.names)}")
        span = stream.spans[stream.names.index(self.modality)]
        return penalties.RepetitionPenalty(self.base, vocab, self.penalty, span.first_id, span.ids)


def _stream(task: Task, what: str) -> Stream:
    """The task's modalities.

    Raises:
      MdmError: it has one.
    """
    stream = stream_of(task)
    if stream is None:
        raise MdmError(f"{what} is for tasks of several modalities, not for {full_name(task)}")
    return stream
