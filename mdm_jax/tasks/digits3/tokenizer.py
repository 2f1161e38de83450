"""What is fitted on the training split and saved with a run: codebooks, classifiers, coded data.

Codebooks are the centroids of k-means, of image patches and of mel frames. The classifiers, which the
verifier uses, are linear on the codes of all positions.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mdm_jax.checksums import text_digest
from mdm_jax.errors import MdmError
from mdm_jax.external_files import read_json
from mdm_jax.tasks.digits3.images import load_images, patches, warped
from mdm_jax.tasks.digits3.speech import Spoken, load_speech
from mdm_jax.tasks.splits import SPLITS

UNSEEN = len(SPLITS)  # the split of speakers that training never hears
_TEST_ONE_IN, _HELDOUT_ONE_IN = 10, 10  # of the images, and of a digit's recordings by one speaker
_COPIES = 9  # of each training image, warped
_PENALTY = 0.3  # inverse strength of the classifiers' l2 penalty
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

    patches: Float[np.ndarray, "image_codes 4"]
    frames: Float[np.ndarray, "speech_codes 20"]
    seconds: float
    images: Coded
    speech: Coded
    image_classifier: Classifier
    speech_classifier: Classifier

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


def fit_tokenizer(
    image_codes: int, speech_codes: int, data_dir: str | None, unseen_speakers: int
) -> Tokenizer:
    """Codebooks and classifiers fitted on the training split of the images and the speech.

    Args:
      data_dir: of the recordings, as in `load_speech`.
      unseen_speakers: so many, the last by name, are never in training.

    Raises:
      MdmError: data are missing, or too few for so many codes.
    """
    pictures, labels = load_images()
    spoken = load_speech(data_dir)
    splits = speech_splits(spoken, unseen_speakers)
    pictures, labels, of_image = _with_copies(pictures, labels)
    book, images = _coded(patches(pictures), labels, of_image, image_codes)
    frames, speech = _coded(spoken.frames, spoken.labels, splits, speech_codes)
    return Tokenizer(
        patches=book,
        frames=frames,
        seconds=float(spoken.seconds[splits == 0].mean()),
        images=images,
        speech=speech,
        image_classifier=_classifier(images, image_codes),
        speech_classifier=_classifier(speech, speech_codes),
    )


def _with_copies(pictures: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Images, labels and splits, with warped copies of the training images after all others."""
    splits = _by_rank(np.random.default_rng(0).permutation(len(labels)), len(labels))
    training = splits == 0
    copies = [warped(pictures[training], seed) for seed in range(_COPIES)]
    labels = np.concatenate([labels, np.tile(labels[training], _COPIES)])
    more = np.zeros(_COPIES * training.sum(), np.int32)
    return np.concatenate([pictures, *copies]), labels, np.concatenate([splits, more])


def _by_rank(order: np.ndarray, count: int) -> Int[np.ndarray, " n"]:
    """The splits of items in a random order: first test, then held out, and the rest training."""
    splits = np.zeros(count, np.int32)
    test, heldout = count // _TEST_ONE_IN, count // _HELDOUT_ONE_IN
    splits[order[:test]] = SPLITS.index("test")
    splits[order[test : test + heldout]] = SPLITS.index("heldout")
    return splits


def speech_splits(spoken: Spoken, unseen_speakers: int) -> Int[np.ndarray, " n"]:
    """The split of each recording: `UNSEEN` for the last speakers, by number for the others.

    Of a digit's recordings by one speaker the first tenth are for tests, as the Free Spoken Digit Dataset
    has it for its 50, and the next tenth are held out; at least one each.

    Raises:
      MdmError: nothing is left to train on.
    """
    names = sorted(set(spoken.speakers))
    unseen = names[len(names) - unseen_speakers :] if unseen_speakers else []
    if len(names) <= unseen_speakers:
        raise MdmError(
            f"there are {len(names)} speakers: unseen_speakers {unseen_speakers} leaves none to train on"
        )
    splits = np.zeros(len(spoken.labels), np.int32)
    groups = np.array(
        [f"{who}/{digit}" for who, digit in zip(spoken.speakers, spoken.labels, strict=True)]
    )
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        test, heldout = -(-len(rows) // _TEST_ONE_IN), -(-len(rows) // _HELDOUT_ONE_IN)
        if len(rows) <= test + heldout:
            raise MdmError(f"{len(rows)} recordings of {group} are too few: three are needed")
        splits[rows[:test]] = SPLITS.index("test")
        splits[rows[test : test + heldout]] = SPLITS.index("heldout")
    splits[np.isin(spoken.speakers, unseen)] = UNSEEN
    return splits


def _coded(
    parts: Float[np.ndarray, "n positions features"],
    labels: Int[np.ndarray, " n"],
    splits: Int[np.ndarray, " n"],
    codes: int,
) -> tuple[Float[np.ndarray, "codes features"], Coded]:
    """The centroids of the training parts, and all parts as the nearest one."""
    from sklearn.cluster import KMeans

    n, positions, features = parts.shape
    training = parts[splits == 0].reshape(-1, features)
    if len(np.unique(training, axis=0)) < codes:
        raise MdmError(f"the training data are too few for {codes} codes: ask for fewer")
    found = KMeans(codes, n_init=3, random_state=0).fit(training)
    book = _rounded(found.cluster_centers_)
    flat = parts.reshape(-1, features)
    distances = (book**2).sum(axis=1) - 2 * flat @ book.T
    numbers = np.argmin(distances, axis=1).reshape(n, positions)
    return book, Coded(numbers.astype(np.int32), labels, splits)


def _classifier(coded: Coded, codes: int) -> Classifier:
    """Multinomial logistic regression on the codes of the training split.

    Raises:
      MdmError: the training split lacks a digit.
    """
    from sklearn.linear_model import LogisticRegression

    training = coded.splits == 0
    if len(np.unique(coded.labels[training])) < 10:
        raise MdmError("the training data lack a digit: give recordings of all ten")
    inputs = np.eye(codes)[coded.codes[training]].reshape(training.sum(), -1)
    found = LogisticRegression(C=_PENALTY, max_iter=1000).fit(inputs, coded.labels[training])
    weights = found.coef_.T.reshape(coded.codes.shape[1], codes, 10)
    return Classifier(_rounded(weights), _rounded(found.intercept_))


def _rounded(values: np.ndarray) -> np.ndarray:
    """As they are saved, so that what is saved is what was used."""
    return np.vectorize(lambda x: float(f"{x:.{_DIGITS}g}"))(values).astype(np.float32)


def _as_lists(item: Any) -> Any:
    if isinstance(item, np.ndarray):
        if item.dtype.kind == "i":
            return item.tolist()
        return np.vectorize(lambda x: float(f"{x:.{_DIGITS}g}"))(item).tolist()
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
