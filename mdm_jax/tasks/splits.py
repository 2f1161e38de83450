"""The names of the splits, and the random streams of tasks that draw their own data."""

import zlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Bool

from mdm_jax.errors import MdmError

SPLITS = ("train", "heldout", "test")
MOST = 10**7  # examples; more is a slip of the finger that would run for days
_HELDOUT_ONE_IN = 20
T = TypeVar("T")


def split_number(split: str) -> int:
    """0, 1 or 2 for train, heldout, test; any other name is an MdmError."""
    if split not in SPLITS:
        raise MdmError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    return SPLITS.index(split)


def example_rng(split: str, index: int) -> np.random.Generator:
    """The stream of example `index`: a function of the split's name and the index alone."""
    return np.random.default_rng([1, split_number(split), index])


def batch_rng(seed: int, step: int) -> np.random.Generator:
    """The stream of training batch `step`; never the one of an example."""
    if seed < 0 or step < 0:
        raise MdmError(f"seed {seed} and step {step} must not be negative")
    return np.random.default_rng([2, seed, step])


def prompt_rng(seed: int) -> np.random.Generator:
    """The stream that chooses the prompts of clean sequences; no example's and no batch's."""
    if seed < 0:
        raise MdmError(f"seed {seed} must not be negative")
    return np.random.default_rng([3, seed])


def world_rng(seed: int) -> np.random.Generator:
    """The stream that draws what a task is about, such as a transition matrix."""
    return np.random.default_rng([4, seed])


def shown_at_random(
    rng: np.random.Generator, shape: tuple[int, int], fewest: int, most: int
) -> Bool[np.ndarray, "size length"]:
    """What prompts show: in each row a uniform number, `fewest` to `most`, of uniform positions."""
    size, length = shape
    counts = rng.integers(fewest, most + 1, size=(size, 1))
    return rng.permuted(np.tile(np.arange(length), (size, 1)), axis=1) < counts


def checked_count(count: int | None, default: int) -> int:
    """`count`, or the default for None; fewer than one or more than `MOST` is an MdmError."""
    if count is not None and not 1 <= count <= MOST:
        raise MdmError(
            f"count {count} must be at least 1 and at most {MOST} (None: the default, {default})"
        )
    return default if count is None else count


def hold_out(items: Sequence[T], texts: Sequence[str]) -> dict[str, list[T]]:
    """Items of train and heldout: the 5 % whose texts hash lowest are held out, at least one."""
    hashes = [zlib.crc32(text.encode()) for text in texts]
    threshold = sorted(hashes)[len(hashes) // _HELDOUT_ONE_IN]
    pairs = list(zip(items, hashes, strict=True))
    return {
        "train": [item for item, number in pairs if number > threshold],
        "heldout": [item for item, number in pairs if number <= threshold],
    }
