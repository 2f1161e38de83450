"""Images and labels from files in the IDX format of MNIST, plain or compressed by gzip."""

import gzip
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from mdm_jax.errors import MdmError
from mdm_jax.external_files import check_not_pointer, expand

TRAIN, TEST = "train", "t10k"  # how the names of a part's two files begin
_BYTES = 0x08  # the code of unsigned bytes, the third byte of a file; the fourth: its dimensions


class Pictures(NamedTuple):
    """Images in 0..1, the digit that each shows, and how many of the last are for tests."""

    images: Float[np.ndarray, "n side side"]
    labels: Int[np.ndarray, " n"]
    tests: int | None = None  # None: they are not told apart


def load_idx(data_dir: str | None, side: int) -> Pictures:
    """train-images-idx3-ubyte and train-labels-idx1-ubyte, and t10k-... where there are such files.

    Args:
      side: rows and columns that each image must have.

    Raises:
      MdmError: files are missing, damaged, or do not fit each other.
    """
    if data_dir is None:
        raise MdmError(
            "images idx are files: give --data_dir a directory with train-images-idx3-ubyte and "
            "train-labels-idx1-ubyte, or use --task.images upsampled"
        )
    home = expand(data_dir)
    images, labels = _part(home, TRAIN, side)
    if not any(_path(home, TEST, kind).is_file() for kind in (3, 1)):
        return Pictures(_scaled(images), labels)
    more, more_labels = _part(home, TEST, side)
    both = np.concatenate([images, more])
    return Pictures(_scaled(both), np.concatenate([labels, more_labels]), len(more))


def _scaled(images: UInt8[np.ndarray, "n side side"]) -> Float[np.ndarray, "n side side"]:
    return images.astype(np.float32) / 255


def _path(home: Path, part: str, dimensions: int) -> Path:
    """The file of the images (3 dimensions) or labels (1); compressed where there is no plain one."""
    kind = {3: "images", 1: "labels"}[dimensions]
    plain = home / f"{part}-{kind}-idx{dimensions}-ubyte"
    packed = plain.with_name(f"{plain.name}.gz")
    return packed if packed.is_file() and not plain.is_file() else plain


def _part(
    home: Path, part: str, side: int
) -> tuple[UInt8[np.ndarray, "n side side"], Int[np.ndarray, " n"]]:
    pictures, named = _path(home, part, 3), _path(home, part, 1)
    images, labels = read_idx(pictures, 3), read_idx(named, 1)
    if images.shape[1:] != (side, side):
        raise MdmError(f"{pictures} has images of {images.shape[1:]}: they must be {side}x{side}")
    if len(images) != len(labels):
        raise MdmError(
            f"{pictures} has {len(images)} images, and {named} {len(labels)} labels: give files of "
            "one data set"
        )
    if labels.max(initial=0) > 9:
        raise MdmError(f"{named} has the label {labels.max()}: digits are 0 to 9")
    return images, labels.astype(np.int32)


def read_idx(path: Path, dimensions: int) -> UInt8[np.ndarray, "..."]:
    """The unsigned bytes of an IDX file: a magic number, the sizes, the values, in big-endian order.

    Raises:
      MdmError: no such file, another magic number, or fewer or more values than it says.
    """
    if not path.is_file():
        raise MdmError(f"{path.parent} has no {path.name.removesuffix('.gz')}, nor with .gz")
    check_not_pointer(path)
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise MdmError(f"{path} cannot be read: {error}") from error
    start = 4 + 4 * dimensions
    if content[:4] != bytes([0, 0, _BYTES, dimensions]):
        raise MdmError(
            f"{path} begins with {content[:4].hex() or 'nothing'}, an IDX file of bytes in "
            f"{dimensions} dimensions with {bytes([0, 0, _BYTES, dimensions]).hex()}"
        )
    sizes = tuple(np.frombuffer(content[4:start], ">u4").tolist()) if len(content) >= start else ()
    expected = start + int(np.prod(sizes, dtype=object)) if sizes else start
    if len(content) != expected:
        raise MdmError(
            f"{path} has {len(content)} bytes, where its header wants {expected}: it is truncated or "
            "damaged, get it again"
        )
    return np.frombuffer(content[start:], np.uint8).reshape(sizes)
