"""Items of each digit, and what is said of modalities at their positions."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from mdm_jax.errors import MdmError
from mdm_jax.streams import Stream
from mdm_jax.tasks.digits3.layout import caption_table
from mdm_jax.tasks.digits3.tokenizer import Coded, Tokenizer
from mdm_jax.tasks.splits import SPLITS


class Items(NamedTuple):
    """The number of each row, and its caption, image and speech as codes."""

    numbers: Int[np.ndarray, " n"]
    contents: tuple[Int[np.ndarray, "n _"], ...]


def items_of(
    tokenizer: Tokenizer,
    splits: tuple[int, int],
    grid: tuple[int, int],
    drawn: Float[np.ndarray, "n digits 3"],
) -> Items:
    """Uniform digits, and for each an image and a recording of its own.

    Args:
      splits: those of the images and of the speech.
      grid: patches of one digit's image.
      drawn: uniform on [0, 1): each digit, its image, its speech.
    """
    rows, count, _ = drawn.shape
    digits = (drawn[:, :, 0] * 10).astype(np.int32)
    images, speech = (
        pick(coded, split, digits.ravel(), drawn[:, :, of].ravel())
        for coded, split, of in zip(
            (tokenizer.images, tokenizer.speech), splits, (1, 2), strict=True
        )
    )
    numbers = digits @ 10 ** np.arange(count - 1, -1, -1, dtype=np.int32)
    pictures = side_by_side(images.reshape(rows, count, -1), grid)
    return Items(numbers, (caption_table(count)[numbers], pictures, speech.reshape(rows, -1)))


def side_by_side(
    codes: Int[np.ndarray, "n digits cells"], grid: tuple[int, int]
) -> Int[np.ndarray, "n _"]:
    """The codes of one wide image, row by row."""
    rows, count, _ = codes.shape
    return codes.reshape(rows, count, *grid).swapaxes(1, 2).reshape(rows, -1)


def apart(codes: Shaped[Array, " _"], grid: tuple[int, int]) -> Shaped[Array, "digits cells"]:
    """The codes of each digit's image in a wide one."""
    return codes.reshape(grid[0], -1, grid[1]).swapaxes(0, 1).reshape(-1, grid[0] * grid[1])


def by_position(
    of_modality: Bool[np.ndarray, "n modalities"], stream: Stream
) -> Bool[np.ndarray, "n length"]:
    """What is said of each modality, at its positions; False outside."""
    outside = np.zeros((len(of_modality), 1), bool)
    return np.concatenate([of_modality, outside], axis=1)[:, stream.modality]


def pick(
    coded: Coded, split: int, digits: Int[np.ndarray, " n"], drawn: np.ndarray
) -> Int[np.ndarray, "n positions"]:
    """The codes of a uniform item of the split for each digit.

    Raises:
      MdmError: the split has none of a digit.
    """
    rows = np.flatnonzero(coded.splits == split)
    rows = rows[np.argsort(coded.labels[rows], kind="stable")]
    counts = np.bincount(coded.labels[rows], minlength=10)
    if not counts.all():
        names = (*SPLITS, "unseen")
        raise MdmError(f"the {names[split]} data lack the digit {int(np.argmin(counts))}")
    starts = np.cumsum(counts) - counts
    return coded.codes[rows[starts[digits] + (drawn * counts[digits]).astype(int)]]
