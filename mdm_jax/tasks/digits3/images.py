"""Images of handwritten digits, from scikit-learn or from IDX files, and their patches."""

import math
from typing import Literal

import numpy as np
import scipy  # its parts are imported at their first use
from jaxtyping import Float, Int

from mdm_jax.errors import MdmError
from mdm_jax.tasks.digits3.idx import Pictures, load_idx

Source = Literal["small", "upsampled", "idx"]
SIDES = {"small": 8, "upsampled": 28, "idx": 28}  # pixels of the images of each source
PATCHES = {8: 2, 28: 4}  # pixels of a patch's side, where nothing else is asked
LEVELS = 16.0
TURN, GROW, SHIFT = 12.0, 0.1, 0.6 / 8  # most of each: degrees, shares of the size


def pictures_of(source: Source, data_dir: str | None) -> Pictures:
    """The images of a source; `data_dir` has the IDX files.

    Raises:
      MdmError: as `load_images` and `load_idx`.
    """
    if source == "idx":
        return load_idx(data_dir, SIDES[source])
    images, labels = load_images()
    return Pictures(upsampled(images, SIDES[source]) if source == "upsampled" else images, labels)


def upsampled(images: Float[np.ndarray, "n 8 8"], side: int) -> Float[np.ndarray, "n side side"]:
    """Larger images by cubic splines: smooth strokes, no more detail than there was."""
    factor = side / images.shape[1]
    found = scipy.ndimage.zoom(images, (1, factor, factor), mode="nearest", grid_mode=True)
    return found.clip(0, 1)


def load_images() -> tuple[Float[np.ndarray, "n 8 8"], Int[np.ndarray, " n"]]:
    """The 1,797 digits of the test part of Alpaydin and Kaynak's data, 0..1, and what they show.

    Raises:
      MdmError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise MdmError(
            "the images of digits3 come with scikit-learn: pip install 'mdm_jax[digits]', or give "
            "--task.tokenizer_file the tokenizer.json of a run"
        ) from error
    found = load_digits()
    return (found.images / LEVELS).astype(np.float32), found.target.astype(np.int32)


def warped(images: Float[np.ndarray, "n side side"], seed: int) -> Float[np.ndarray, "n side side"]:
    """Each image turned, scaled and shifted a little, at random: more to train on."""
    rng, side = np.random.default_rng(seed), images.shape[1]
    centre, shift = np.full(2, (side - 1) / 2), SHIFT * side
    turns = np.radians(rng.uniform(-TURN, TURN, len(images)))
    scales = rng.uniform(1 - GROW, 1 + GROW, len(images))
    shifts = rng.uniform(-shift, shift, (len(images), 2))
    found = np.empty_like(images)
    for row, (image, turn, scale) in enumerate(zip(images, turns, scales, strict=True)):
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / scale
        offset = centre - matrix @ centre + shifts[row]
        found[row] = scipy.ndimage.affine_transform(image, matrix, offset, order=1)
    return found


def patches(
    images: Float[np.ndarray, "n side side"], patch: int = PATCHES[8]
) -> Float[np.ndarray, "n cells pixels"]:
    """The square patches of each image, row by row."""
    rows = images.shape[1] // patch
    blocks = images.reshape(-1, rows, patch, rows, patch).swapaxes(2, 3)
    return blocks.reshape(-1, rows * rows, patch * patch)


def joined(parts: Float[np.ndarray, "cells pixels"], rows: int) -> Float[np.ndarray, "side width"]:
    """The image that has these patches in so many rows."""
    patch = math.isqrt(parts.shape[1])
    blocks = parts.reshape(rows, -1, patch, patch).swapaxes(1, 2)
    return blocks.reshape(rows * patch, -1)
