"""Images of handwritten digits from scikit-learn, and their patches."""

import numpy as np
import scipy.ndimage
from jaxtyping import Float, Int

from mdm_jax.errors import MdmError
from mdm_jax.tasks.digits3.layout import GRID

SIDE, PATCH, LEVELS = 8, 2, 16.0
TURN, GROW, SHIFT = 12.0, 0.1, 0.6  # most of each: degrees, a share of the size, pixels


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


def warped(images: Float[np.ndarray, "n 8 8"], seed: int) -> Float[np.ndarray, "n 8 8"]:
    """Each image turned, scaled and shifted a little, at random: more to train on."""
    rng, centre = np.random.default_rng(seed), np.full(2, (SIDE - 1) / 2)
    turns = np.radians(rng.uniform(-TURN, TURN, len(images)))
    scales = rng.uniform(1 - GROW, 1 + GROW, len(images))
    shifts = rng.uniform(-SHIFT, SHIFT, (len(images), 2))
    found = np.empty_like(images)
    for row, (image, turn, scale) in enumerate(zip(images, turns, scales, strict=True)):
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / scale
        offset = centre - matrix @ centre + shifts[row]
        found[row] = scipy.ndimage.affine_transform(image, matrix, offset, order=1)
    return found


def patches(images: Float[np.ndarray, "n 8 8"]) -> Float[np.ndarray, "n 16 4"]:
    """The 2x2 patches of each image, row by row."""
    rows, columns = GRID
    blocks = images.reshape(-1, rows, PATCH, columns, PATCH).swapaxes(2, 3)
    return blocks.reshape(-1, rows * columns, PATCH * PATCH)


def joined(parts: Float[np.ndarray, "16 4"]) -> Float[np.ndarray, "8 8"]:
    """The image that has these patches."""
    rows, columns = GRID
    return parts.reshape(rows, columns, PATCH, PATCH).swapaxes(1, 2).reshape(SIDE, SIDE)
