"""How long computations say what they do: in silence, unless the caller passes a `Reporter`."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

Advance = Callable[..., None]  # (count, note), or (count)
Progress = Callable[..., AbstractContextManager[Advance]]  # (title, total), or (title, total, done)


@contextmanager
def silent(title: str, total: int, done: int = 0) -> Iterator[Advance]:
    """A progress bar that shows nothing."""
    yield lambda count, note="": None


class Reporter(NamedTuple):
    """Where lines and progress are shown.

    Attributes:
      say: given a line, or several in one text.
      progress: a context manager for a title, the units in all and those that are done already; its
        value is called with the number of further units and a note.
    """

    say: Callable[[str], None] = lambda text: None
    progress: Progress = silent
