"""Fitting the tokenizer: splits, k-means codebooks and linear classifiers, by scikit-learn."""

import numpy as np
from jaxtyping import Float, Int

from mdm_jax.errors import MdmError
from mdm_jax.tasks.digits3.idx import Pictures
from mdm_jax.tasks.digits3.images import PATCHES, Source, patches, pictures_of, warped
from mdm_jax.tasks.digits3.speech import Spoken, load_speech
from mdm_jax.tasks.digits3.tokenizer import UNSEEN, Classifier, Coded, Tokenizer, rounded
from mdm_jax.tasks.splits import SPLITS

_TEST_ONE_IN, _HELDOUT_ONE_IN = 10, 10  # of the images, and of a digit's recordings by one speaker
_MOST_PARTS = 30_000  # of training that a codebook is fitted on, drawn at random
_COPIES, _ENOUGH = 9, 20_000  # warped copies of each training image, up to so many images
_PENALTY = 0.3  # inverse strength of the classifiers' l2 penalty


def fit_tokenizer(
    image_codes: int,
    speech_codes: int,
    data_dir: str | None,
    unseen_speakers: int,
    source: Source = "small",
    patch: int = PATCHES[8],
) -> Tokenizer:
    """Codebooks and classifiers fitted on the training split of the images and the speech.

    On one thread: a sum in another order would be another tokenizer, and a run could not be resumed.

    Args:
      data_dir: of the recordings, as in `load_speech`, and of IDX files.
      unseen_speakers: so many, the last by name, are never in training.
      source, patch: of the images, and pixels of a patch's side.

    Raises:
      MdmError: data are missing, or too few for so many codes.
    """
    pictures = pictures_of(source, data_dir)
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    spoken = load_speech(data_dir, may_synthesise=source == "idx")
    splits = speech_splits(spoken, unseen_speakers)
    shown, labels, of_image = _with_copies(pictures)
    with threadpool_limits(1):
        book, images = _coded(patches(shown, patch), labels, of_image, image_codes)
        frames, speech = _coded(spoken.frames, spoken.labels, splits, speech_codes)
        of_images, of_speech = _classifier(images, image_codes), _classifier(speech, speech_codes)
    seconds = float(spoken.seconds[splits == 0].mean())
    return Tokenizer(book, frames, seconds, images, speech, of_images, of_speech)


def _with_copies(pictures: Pictures) -> tuple[np.ndarray, ...]:
    """Images, labels and splits, with warped copies of few training images after all others."""
    images, labels, tests = pictures
    splits = _image_splits(len(labels), tests)
    training = splits == 0
    most = max(_ENOUGH // max(int(training.sum()), 1) - 1, 0)
    copies = [warped(images[training], seed) for seed in range(min(_COPIES, most))]
    labels = np.concatenate([labels, np.tile(labels[training], len(copies))])
    more = np.zeros(len(copies) * training.sum(), np.int32)
    return np.concatenate([images, *copies]), labels, np.concatenate([splits, more])


def _image_splits(count: int, tests: int | None) -> Int[np.ndarray, " n"]:
    """The splits of images in a random order: first test, then held out, and the rest training.

    Args:
      tests: so many at the end are the test split; None: a tenth at random.
    """
    splits = np.zeros(count, np.int32)
    rest = count - (tests or 0)
    order, heldout = np.random.default_rng(0).permutation(rest), rest // _HELDOUT_ONE_IN
    test = rest // _TEST_ONE_IN if tests is None else 0
    splits[rest:] = SPLITS.index("test")
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
    some = np.random.default_rng(0).permutation(training)[:_MOST_PARTS]
    found = KMeans(codes, n_init=3, random_state=0).fit(some)
    book = rounded(found.cluster_centers_)
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

    training = np.flatnonzero(coded.splits == 0)
    if len(np.unique(coded.labels[training])) < 10:
        raise MdmError("the training data lack a digit: give images and recordings of all ten")
    if len(training) > _ENOUGH:
        training = np.random.default_rng(0).permutation(training)[:_ENOUGH]
    inputs = np.eye(codes)[coded.codes[training]].reshape(len(training), -1)
    found = LogisticRegression(C=_PENALTY, max_iter=1000).fit(inputs, coded.labels[training])
    weights = found.coef_.T.reshape(coded.codes.shape[1], codes, 10)
    return Classifier(rounded(weights), rounded(found.intercept_))
