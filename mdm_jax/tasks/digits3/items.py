"""Items of each digit, and what is said of modalities at their positions."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from mdm_jax.errors import MdmError
from mdm_jax.streams import Stream
from mdm_jax.tasks.digits3.tokenizer import Coded
from mdm_jax.tasks.splits import SPLITS


class Items(NamedTuple):
    """The digit of each row, and its caption, image and speech as codes."""

    digits: Int[np.ndarray, " n"]
    contents: tuple[Int[np.ndarray, "n _"], ...]


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
