"""What is fitted on the training split and saved with a run: codebooks, classifiers, coded data.

Codebooks are the centroids of k-means, of image patches and of mel frames. The classifiers, which the
verifier uses, are linear on the codes of all positions.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mdm_jax.checksums import text_digest
from mdm_jax.errors import MdmError
from mdm_jax.external_files import read_json
from mdm_jax.tasks.splits import SPLITS

UNSEEN = len(SPLITS)  # the split of speakers that training never hears
_DIGITS = 6  # significant ones that are saved


class Coded(NamedTuple):
    """Items of one modality as codes, with the digit and the split of each."""

    codes: Int[np.ndarray, "n positions"]
    labels: Int[np.ndarray, " n"]
    splits: Int[np.ndarray, " n"]  # index into `SPLITS`, or `UNSEEN`


class Classifier(NamedTuple):
    """Scores of the ten digits: the bias, and the sum over positions of the weights of their codes."""

    weights: Float[np.ndarray, "positions codes 10"]
    bias: Float[np.ndarray, " 10"]

    def digits(self, codes: Int[np.ndarray, "n positions"]) -> Int[np.ndarray, " n"]:
        """The digit with the highest score of each item."""
        scores = self.weights[np.arange(codes.shape[1]), codes].sum(axis=1)
        return np.argmax(scores + self.bias, axis=-1)


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
    """Codebooks, classifiers and coded data of images and speech.

    Attributes:
      patches, frames: the centroids, one for each code.
      seconds: duration of a spoken word, the mean over training.
    """

    patches: Float[np.ndarray, "image_codes pixels"]
    frames: Float[np.ndarray, "speech_codes 20"]
    seconds: float
    images: Coded
    speech: Coded
    image_classifier: Classifier
    speech_classifier: Classifier

    @property
    def grid(self) -> tuple[int, int]:
        """Patches of an image: rows and columns."""
        rows = math.isqrt(self.images.codes.shape[1])
        return rows, rows

    @property
    def patch(self) -> int:
        """Pixels of a patch's side."""
        return math.isqrt(self.patches.shape[1])

    def save(self, path: str) -> None:
        """Write it as one JSON file."""
        Path(path).write_text(self._text(), encoding="utf-8")

    def digest(self) -> str:
        """A digest of all that is in it."""
        return text_digest(self._text())

    def _text(self) -> str:
        return json.dumps(_as_lists(dataclasses.asdict(self)), separators=(",", ":"))

    def error(self, modality: str, split: int) -> float:
        """Share of a split's own items that the classifier takes for another digit."""
        coded: Coded = getattr(self, "images" if modality == "image" else "speech")
        chosen = coded.splits == split
        found = getattr(self, f"{modality}_classifier").digits(coded.codes[chosen])
        return float(np.mean(found != coded.labels[chosen]))


def load_tokenizer(path: str) -> Tokenizer:
    """The tokenizer that `save` has written.

    Raises:
      MdmError: the file is none.
    """
    content = read_json(Path(path))
    try:
        return _from_lists(content)
    except (KeyError, TypeError, ValueError) as error:
        raise MdmError(f"tokenizer_file {path} is none of digits3: {error!r}") from error


def rounded(values: np.ndarray) -> np.ndarray:
    """As they are saved, so that what is saved is what was used."""
    return _shortened(values).astype(np.float32)


def _shortened(values: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda x: float(f"{x:.{_DIGITS}g}"))(values)


def _as_lists(item: Any) -> Any:
    if isinstance(item, np.ndarray):
        if item.dtype.kind == "i":
            return item.tolist()
        return _shortened(item).tolist()
    if isinstance(item, tuple):  # of named fields
        return {name: _as_lists(getattr(item, name)) for name in item._fields}
    return {k: _as_lists(v) for k, v in item.items()} if isinstance(item, dict) else item


def _from_lists(content: dict) -> Tokenizer:
    def coded(item: dict) -> Coded:
        return Coded(**{name: np.array(item[name], np.int32) for name in Coded._fields})

    def classifier(item: dict) -> Classifier:
        return Classifier(*(np.array(item[n], np.float32) for n in Classifier._fields))

    return Tokenizer(
        patches=np.array(content["patches"], np.float32),
        frames=np.array(content["frames"], np.float32),
        seconds=float(content["seconds"]),
        images=coded(content["images"]),
        speech=coded(content["speech"]),
        image_classifier=classifier(content["image_classifier"]),
        speech_classifier=classifier(content["speech_classifier"]),
    )
