"""What a task is: clean sequences to learn from, prompts to complete, and a verifier."""

from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int


class Vocabulary(NamedTuple):
    """Ids 0..size-1 may be produced; MASK and PAD come after them and never are."""

    size: int
    eos_id: int | None = None

    @property
    def mask_id(self) -> int:
        return self.size

    @property
    def pad_id(self) -> int:
        return self.size + 1


class Batch(NamedTuple):
    """Clean sequences. Only `maskable` positions are ever masked, and only they count in a loss."""

    tokens: Int[np.ndarray, "batch length"]
    maskable: Bool[np.ndarray, "batch length"]


class Examples(NamedTuple):
    """Canvases to complete (prompt, MASK, PAD) and what the verifier needs to judge each one.

    `references` is a pytree of arrays with leading axis n.
    """

    canvases: Int[np.ndarray, "n length"]
    references: Any


@runtime_checkable
class Task(Protocol):
    """A frozen dataclass of settings; data are loaded when first asked for.

    `length` positions in a canvas; `gen_length` of them, after the prompt, are generated (None:
    masks may be anywhere). `pure_verifier` says that `verify` is pure JAX and may be jitted and
    vmapped.
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

        Positions of the prompt are taken out of `maskable`; orders are learned on what is left. A
        function of the arguments alone.
        """
        ...

    def verify(self, canvas: Any, reference: Any) -> Any:
        """Whether one finished canvas [length] solves its prompt."""
        ...

    def decode(self, tokens: Any) -> str:
        """One canvas [length] as text for people; MASK is shown, PAD is not."""
        ...
