"""Where caption, image and speech are in a canvas, their ids, and the directions between them.

`TASK | BOT caption EOT | BOI image EOI | BOA speech EOA`; a modality that a direction does not have is
PAD, boundary tokens included. Of several digits the names follow one another, the images are side by
side, and the words are spoken in turn.
"""

import itertools
import string
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Int

from mdm_jax.streams import Span, Stream

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LETTERS = " " + string.ascii_lowercase  # the blank is between words, and fills the end
GRID = (4, 4)  # patches of one digit's image, where they are 2x2 of 8x8 pixels
FRAMES = 16  # of a spoken word
MODALITIES = ("text", "image", "speech")

Direction = Literal["t2i", "i2t", "tts", "asr", "i2a", "a2i", "joint"]
DIRECTIONS: tuple[str, ...] = get_args(Direction)
_SIDES = {
    "t2i": ("text", "image"),
    "i2t": ("image", "text"),
    "tts": ("text", "speech"),
    "asr": ("speech", "text"),
    "i2a": ("image", "speech"),
    "a2i": ("speech", "image"),
}
SHOWN = np.array([[m == _SIDES.get(d, (None,))[0] for m in MODALITIES] for d in DIRECTIONS])
MADE = np.array([[m == _SIDES.get(d, (None, m))[1] for m in MODALITIES] for d in DIRECTIONS])


class Layout(NamedTuple):
    """The stream, and the ids of no modality: two boundaries of each, and a token of each task."""

    stream: Stream
    boundaries: tuple[tuple[int, int], ...]
    tasks: tuple[int, ...]
    size: int  # number of ids in all


def layout_of(
    image_codes: int, speech_codes: int, grid: tuple[int, int] = GRID, digits: int = 1
) -> Layout:
    """The layout for codebooks of these sizes, and so many digits with a grid of patches each."""
    rows, columns = grid[0], grid[1] * digits
    lengths = (caption_length(digits), rows * columns, FRAMES * digits)
    ids, grids = (len(LETTERS), image_codes, speech_codes), (None, (rows, columns), None)
    spans, start, first = [], 1, 0
    for name, length, count, grid in zip(MODALITIES, lengths, ids, grids, strict=True):
        spans.append(Span(name, start + 1, length, first, count, grid))
        start, first = start + length + 2, first + count
    boundaries = tuple((first + 2 * i, first + 2 * i + 1) for i in range(len(spans)))
    tasks = tuple(range(first + 2 * len(spans), first + 2 * len(spans) + len(DIRECTIONS)))
    return Layout(Stream(start, tuple(spans)), boundaries, tasks, tasks[-1] + 1)


def caption_length(digits: int) -> int:
    """Letters of the longest caption, and the blanks between its words."""
    return max(map(len, WORDS)) * digits + digits - 1


def caption_table(digits: int = 1) -> Int[np.ndarray, "numbers caption"]:
    """The ids of the caption of each number of so many digits, filled with blanks."""
    names = map(" ".join, itertools.product(WORDS, repeat=digits))
    filled = [name.ljust(caption_length(digits)) for name in names]
    return np.array([[LETTERS.index(letter) for letter in name] for name in filled], np.int32)


def canvases(
    layout: Layout,
    direction: Int[np.ndarray, " n"],
    contents: tuple[Int[np.ndarray, "n _"], ...],
    pad_id: int,
) -> Int[np.ndarray, "n length"]:
    """Clean canvases with the content of every modality that the direction has.

    Args:
      direction: an index into `DIRECTIONS` for each row.
      contents: ids within each modality, from 0.
    """
    rows = np.full((len(direction), layout.stream.length), pad_id, np.int32)
    rows[:, 0] = np.array(layout.tasks)[direction]
    has = (SHOWN | MADE)[direction]
    for index, span in enumerate(layout.stream.spans):
        opened, closed = (np.full((len(rows), 1), i) for i in layout.boundaries[index])
        whole = np.concatenate([opened, contents[index] + span.first_id, closed], axis=1)
        place = slice(span.start - 1, span.start + span.length + 1)
        rows[:, place] = np.where(has[:, index, None], whole, pad_id)
    return rows
