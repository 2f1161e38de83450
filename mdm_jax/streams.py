"""Canvases of several modalities: which positions each has, and which ids they may take."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from mdm_jax.errors import MdmError

OUTSIDE = -1  # of every span: positions that are never masked


@dataclass(frozen=True)
class Span:
    """Neighbouring positions of one modality.

    Attributes:
      modality: its name.
      start, length: its positions.
      first_id, ids: the ids that they may take: `ids` of them from `first_id` on.
      grid: rows and columns of an image, row by row; None: the positions are a sequence.
    """

    modality: str
    start: int
    length: int
    first_id: int
    ids: int
    grid: tuple[int, int] | None = None

    @property
    def positions(self) -> slice:
        """Where it is in the canvas."""
        return slice(self.start, self.start + self.length)


@dataclass(frozen=True)
class Stream:
    """The modalities of a canvas of `length` positions; hashable, so it may be static.

    Positions outside the spans hold what is never masked: task and boundary tokens.

    Raises:
      MdmError: spans overlap, leave the canvas, share ids, or a grid does not fit its span.
    """

    length: int
    spans: tuple[Span, ...]

    def __post_init__(self) -> None:
        taken, ids = set(), set()
        for span in self.spans:
            places = set(range(span.start, span.start + span.length))
            own = set(range(span.first_id, span.first_id + span.ids))
            if not places or places & taken or not places <= set(range(self.length)):
                raise MdmError(
                    f"{span} overlaps another span or leaves the {self.length} positions"
                )
            if not own or own & ids:
                raise MdmError(f"{span} shares ids with another span, or has none")
            if span.grid is not None and span.grid[0] * span.grid[1] != span.length:
                raise MdmError(
                    f"the grid {span.grid} of {span.modality} has not {span.length} cells"
                )
            taken |= places
            ids |= own

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities, in the order of their numbers."""
        return tuple(span.modality for span in self.spans)

    @property
    def modality(self) -> Int[np.ndarray, " length"]:
        """The number of each position's modality, `OUTSIDE` where it has none."""
        number = np.full(self.length, OUTSIDE, np.int32)
        for index, span in enumerate(self.spans):
            number[span.positions] = index
        return number

    def allowed(self, vocab: int) -> Bool[np.ndarray, "length vocab"]:
        """Which ids each position may take: those of its span, and outside all that no span has.

        Raises:
          MdmError: a span has ids that are not below `vocab`.
        """
        ids = np.arange(vocab)
        ranges = np.stack([(ids >= s.first_id) & (ids < s.first_id + s.ids) for s in self.spans])
        if ranges.sum() != sum(span.ids for span in self.spans):
            raise MdmError(f"the spans have ids that are not below {vocab}")
        return np.concatenate([ranges, ~ranges.any(axis=0)[None]])[self.modality]

    @property
    def coordinates(self) -> Int[np.ndarray, "length 2"]:
        """Row and column of each position: its number twice where it is not in a grid.

        The first cell of a grid has the number of its position, so that it follows what precedes it.
        """
        places = np.tile(np.arange(self.length, dtype=np.int32)[:, None], (1, 2))
        for span in self.spans:
            if span.grid is not None:
                cells = np.indices(span.grid).reshape(2, -1).T
                places[span.positions] = span.start + cells
        return places
