"""What a task is: clean sequences to train on, prompts to complete, and a verifier."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int

from mdm_jax.denoisers.base import DenoiseExact
from mdm_jax.errors import MdmError
from mdm_jax.streams import Stream


@dataclass(frozen=True)
class Vocabulary:
    """The ids of a task: 0..size-1 are what the denoiser has logits for.

    Attributes:
      size: number of logits at a position.
      eos_id: ends a response; None: responses have no end.
      mask_id: MASK; None: the first id after them, which is how denoisers are trained here.
        Published checkpoints have theirs among the others.
      pad_id: PAD, which no denoiser has logits for; None: the first id after all others.
      unused: ids below `size` that are no text, such as rows beyond the tokenizer.
      turn_ends: further ids that end a response, such as the end of an assistant's turn.
    """

    size: int
    eos_id: int | None = None
    mask_id: int | None = None
    pad_id: int | None = None
    unused: tuple[int, ...] = field(default=(), repr=False)
    turn_ends: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.mask_id is None:
            object.__setattr__(self, "mask_id", self.size)
        if self.pad_id is None:
            object.__setattr__(self, "pad_id", max(self.size, self.mask_id + 1))
        if self.mask_id < 0 or self.pad_id < self.size or self.mask_id == self.pad_id:
            raise MdmError(
                f"MASK {self.mask_id} and PAD {self.pad_id} must differ, and PAD must be at least the "
                f"{self.size} ids there are"
            )

    @property
    def ends(self) -> tuple[int, ...]:
        """All ids that end a response; empty: responses have no end."""
        return self.turn_ends if self.eos_id is None else (self.eos_id, *self.turn_ends)


class Batch(NamedTuple):
    """Clean sequences. Only `maskable` positions are ever masked, and only they count in a loss."""

    tokens: Int[np.ndarray, "batch length"]
    maskable: Bool[np.ndarray, "batch length"]


class Examples(NamedTuple):
    """Canvases to complete (prompt, MASK, PAD) and what the verifier compares each one with.

    `references` is a pytree of arrays with leading axis n.
    """

    canvases: Int[np.ndarray, "n length"]
    references: Any


class TextRecord(NamedTuple):
    """A finished canvas as text."""

    prompt: str
    text: str  # the response, up to its end
    answer: str | None  # what the verifier extracts from it; None: nothing
    reference: str


def heldout_title(task: "Task") -> str:
    """What a bound on `task.heldout()` is called: held out, unless the task says it holds nothing out."""
    if getattr(task, "holds_out", True):
        return "held-out bound"
    return "bound on the training sequences (nothing is held out)"


@runtime_checkable
class TextTask(Protocol):
    """A task whose prompts and answers are natural language."""

    def text_record(self, canvas: Any, reference: Any) -> TextRecord: ...


@runtime_checkable
class Task(Protocol):
    """A frozen dataclass of settings; data are loaded when they are first used.

    `length` positions in a canvas; `gen_length` of them, after the prompt, are generated (None:
    masks may be anywhere). `pure_verifier` says that `verify` is pure JAX and may be jitted and
    vmapped. See `HasIdentity` where files give the ids their meaning.
    """

    name: ClassVar[str]
    pure_verifier: ClassVar[bool]

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def length(self) -> int: ...

    @property
    def gen_length(self) -> int | None: ...

    def train_batch(self, seed: int, step: int, size: int) -> Batch:
        """Batch `step` of an endless stream: a pure function of its arguments (exact resume)."""
        ...

    def heldout(self) -> Batch:
        """Clean sequences that training never sees (where the task has any), for likelihoods."""
        ...

    def examples(self, split: str = "test", count: int | None = None) -> Examples:
        """The first `count` prompts of a split; the same ones at every call."""
        ...

    def with_prompts(self, batch: Batch, seed: int) -> Batch:
        """The same sequences with their prompts shown as `examples` show them.

        Positions of the prompt are removed from `maskable`; orders are learned on the rest. A function
        of the arguments alone.
        """
        ...

    def verify(self, canvas: Any, reference: Any) -> Any:
        """Whether one finished canvas [length] solves its prompt."""
        ...

    def decode(self, tokens: Any) -> str:
        """One canvas [length] as text for display; MASK is shown, PAD is not."""
        ...


@runtime_checkable
class HasOracle(Protocol):
    """A task with exact conditionals, at least in some of its settings."""

    def oracle(self) -> DenoiseExact:
        """The exact denoiser; MdmError where these settings have none."""
        ...


@runtime_checkable
class HasIdentity(Protocol):
    """A task whose ids get their meaning from files, such as a tokenizer's."""

    def identity(self) -> dict[str, str]:
        """A digest of each of them, by name."""
        ...


@runtime_checkable
class HasStream(Protocol):
    """A task whose canvases have several modalities."""

    @property
    def stream(self) -> Stream: ...


@runtime_checkable
class HasVariant(Protocol):
    """A task that one denoiser does in several ways, each evaluated in a directory of its own."""

    @property
    def variant(self) -> str:
        """A word that tells them apart; empty where the name says it all."""
        ...


@runtime_checkable
class HasCeiling(Protocol):
    """A task whose verifier errs."""

    def ceiling(self, split: str) -> str:
        """How often it rejects the split's own items, as a sentence."""
        ...


@runtime_checkable
class HasMedia(Protocol):
    """A task whose canvases are to be looked at or listened to."""

    def save_media(self, tokens: Any, directory: str, stem: str) -> list[str]:
        """Write one finished canvas as files whose names begin with `stem`; returns their paths."""
        ...


def stream_of(task: Any) -> Stream | None:
    """The modalities of its canvases; None: they have one."""
    return task.stream if isinstance(task, HasStream) else None


def full_name(task: Any) -> str:
    """The task's name, and which of its ways it is done in."""
    variant = task.variant if isinstance(task, HasVariant) else ""
    return f"{task.name}-{variant}" if variant else task.name


def identity_of(task: Any) -> dict[str, str]:
    """What else must be equal where two tasks of equal settings are the same."""
    return task.identity() if isinstance(task, HasIdentity) else {}
