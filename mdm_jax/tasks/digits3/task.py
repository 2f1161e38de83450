"""Digits as captions, handwritten images and spoken words, in one stream of tokens."""

import dataclasses
import functools
from typing import ClassVar, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.errors import MdmError, check_range
from mdm_jax.streams import Stream
from mdm_jax.tasks.base import Batch, Examples, Vocabulary
from mdm_jax.tasks.digits3.images import PATCHES, SIDES, Source
from mdm_jax.tasks.digits3.items import Items, apart, by_position, items_of
from mdm_jax.tasks.digits3.layout import (
    DIRECTIONS,
    MADE,
    SHOWN,
    Direction,
    Layout,
    canvases,
    caption_table,
    layout_of,
)
from mdm_jax.tasks.digits3.tokenizer import UNSEEN, Classifier, Tokenizer, load_tokenizer
from mdm_jax.tasks.mixture import kinds_of_batch
from mdm_jax.tasks.splits import batch_rng, checked_count, example_rng, split_number

_HELDOUT_STREAM = (
    1_000_000_000  # indices from here on are held-out sequences, below they are prompts
)
_MOST_DIGITS = 3  # captions are looked up in a table of all


@functools.lru_cache(maxsize=1)  # a task in another direction has the same
def _fitted(*settings: object) -> Tokenizer:
    from mdm_jax.tasks.digits3.fitting import fit_tokenizer  # scipy.signal takes half a second

    return fit_tokenizer(*settings)


class Reference(NamedTuple):
    """What a generation is compared with."""

    canvas: Int[np.ndarray, "*n length"]  # the prompt
    digit: Int[np.ndarray, "*n"]  # or number, that it shows; -1: none, all modalities must agree


@dataclasses.dataclass(frozen=True, kw_only=True)
class Digits3:
    """Translate digits between caption, handwritten image and speech, or make all three.

    Directions: t2i (image from caption), i2t, tts (speech from caption), asr, i2a (speech from image),
    a2i, and joint, which shows nothing and wants all three to agree. Images are scikit-learn's or of
    files; speech is recorded (`data_dir`) or synthesised. Image and speech are codes of small codebooks.
    An image or a spoken word counts as the digit that a linear classifier of its codes says: see
    `Tokenizer.error`. Of several digits the names are in one caption, the images side by side, and the
    words in turn, each item drawn apart.

    Args:
      data_dir: recordings named DIGIT_SPEAKER_NUMBER.wav, as of the Free Spoken Digit Dataset; None:
        espeak-ng speaks. Files of images too, where these are idx.
      tokenizer_file: a tokenizer.json saved by `tokenizer.save`, which has the data too; None: fit it.
      direction: what sequences and prompts are about; mixed: all directions, of prompts each in turn.
      voices: whose speech the test split has: seen, of speakers in training, or unseen.
      shares: rows of mixed training for each direction, in the order above, exact parts of their sum.
      prompted: share of the rows of training whose prompt is shown; in the others all is learned.
      num_digits: digits of a sequence, 1 to 3.
      images: small, scikit-learn's of 8x8 pixels; upsampled, the same at 28x28, with no more detail;
        idx, of 28x28 from train-images-idx3-ubyte and train-labels-idx1-ubyte (plain or .gz), as of
        MNIST, in `data_dir`; tests are t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte if there.
      patch: pixels of a patch's side, which divide the image's; None: 2 of small, 4 of other images.
      image_codes, speech_codes: sizes of the codebooks.
      unseen_speakers: so many speakers, the last by name, are never in training.
      num_examples: heldout sequences, and prompts of a split without a count.
    """

    name: ClassVar[str] = "digits3"
    pure_verifier: ClassVar[bool] = True

    data_dir: str | None = None
    tokenizer_file: str | None = None
    direction: Literal["mixed"] | Direction = "mixed"
    voices: Literal["seen", "unseen"] = "seen"
    shares: tuple[int, ...] = (2, 1, 2, 1, 1, 1, 2)
    prompted: float = 0.5
    num_digits: int = 1
    images: Source = "small"
    patch: int | None = None
    image_codes: int = 32
    speech_codes: int = 64
    unseen_speakers: int = 1
    num_examples: int = 512

    def __post_init__(self):
        if self.direction not in ("mixed", *DIRECTIONS):
            raise MdmError(f"direction {self.direction!r} is not mixed, {', '.join(DIRECTIONS)}")
        if len(self.shares) != len(DIRECTIONS):
            raise MdmError(
                f"shares {self.shares} must be {len(DIRECTIONS)} numbers, a direction each"
            )
        kinds_of_batch(self.shares, 0, 1)
        check_range("prompted", self.prompted, 0, 1)
        check_range("unseen_speakers", self.unseen_speakers, 0)
        check_range("num_digits", self.num_digits, 1, _MOST_DIGITS)
        if self.images not in SIDES:
            raise MdmError(f"images {self.images!r} are not {', '.join(SIDES)}")
        side = SIDES[self.images]
        if self.patch is not None and (self.patch < 1 or side % self.patch):
            raise MdmError(f"patch {self.patch} must divide the {side} pixels of an image's side")
        for name in ("image_codes", "speech_codes", "num_examples"):
            check_range(name, getattr(self, name), 2)

    @property
    def layout(self) -> Layout:
        """Where everything is in a canvas."""
        return layout_of(self.image_codes, self.speech_codes, self._grid, self.num_digits)

    @property
    def _patch(self) -> int:
        """Pixels of a patch's side."""
        return self.patch or PATCHES[SIDES[self.images]]

    @property
    def _grid(self) -> tuple[int, int]:
        """Patches of one digit's image."""
        rows = SIDES[self.images] // self._patch
        return rows, rows

    @property
    def stream(self) -> Stream:
        return self.layout.stream

    @property
    def variant(self) -> str:
        parts = {
            self.images: self.images != "small",
            f"{self.num_digits}-digits": self.num_digits > 1,
            self.direction: self.direction != "mixed",
            "unseen": self.voices == "unseen",
        }
        return "-".join(name for name, is_said in parts.items() if is_said)

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(size=self.layout.size)

    @property
    def length(self) -> int:
        return self.stream.length

    @property
    def gen_length(self) -> None:
        return None

    @property
    def condition(self) -> tuple[int, ...]:
        """The positions that prompts show; none where `direction` does not say which."""
        return self._positions(SHOWN)

    @property
    def response(self) -> tuple[int, ...]:
        """The positions that are generated; none where `direction` does not say which."""
        return self._positions(MADE)

    def _positions(self, table: Bool[np.ndarray, "directions modalities"]) -> tuple[int, ...]:
        if self.direction == "mixed":
            return ()
        row = by_position(table[[DIRECTIONS.index(self.direction)]], self.stream)[0]
        return tuple(np.flatnonzero(row).tolist())

    @property
    def _weights(self) -> tuple[int, ...]:
        """The shares of the directions."""
        if self.direction == "mixed":
            return self.shares
        return tuple(int(name == self.direction) for name in DIRECTIONS)

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        sizes = self.image_codes, self.speech_codes
        if self.tokenizer_file is None:
            speech = self.data_dir, self.unseen_speakers
            return _fitted(*sizes, *speech, self.images, self._patch)
        found = load_tokenizer(self.tokenizer_file)
        if (len(found.patches), len(found.frames)) != sizes:
            raise MdmError(
                f"{self.tokenizer_file} has codebooks of {len(found.patches)} and {len(found.frames)}: "
                "give the same --task.image_codes and --task.speech_codes"
            )
        if (found.grid, found.patch) != (self._grid, self._patch):
            raise MdmError(
                f"{self.tokenizer_file} has images of {found.grid[0] * found.patch} pixels a side, and "
                f"patches of {found.patch}: give the same --task.images and --task.patch"
            )
        return found

    def identity(self) -> dict[str, str]:
        """What decides the meaning of ids, beside the settings."""
        return {"tokenizer": self.tokenizer.digest()}

    def train_batch(self, seed: int, step: int, size: int) -> Batch:
        """Digits and items of them, all uniform; directions in turn, with their exact shares."""
        direction = kinds_of_batch(self._weights, step, size)
        rng = batch_rng(seed, step)
        batch = self._batch(
            direction, self._items("train", rng.random((size, *self._drawn))).contents
        )
        shows = rng.random(size) < self.prompted
        return batch._replace(maskable=batch.maskable & ~(self._shown(direction) & shows[:, None]))

    def heldout(self) -> Batch:
        rows = np.arange(self.num_examples)
        direction = kinds_of_batch(self._weights, 0, len(rows))
        drawn = [example_rng("heldout", _HELDOUT_STREAM + int(i)).random(self._drawn) for i in rows]
        return self._batch(direction, self._items("heldout", np.stack(drawn)).contents)

    @property
    def _drawn(self) -> tuple[int, int]:
        """The uniform numbers of a sequence: three for each digit."""
        return self.num_digits, 3

    def examples(self, split: str = "test", count: int | None = None) -> Examples:
        """Prompts of items of a split, any number of them, in `direction`."""
        rows = np.arange(checked_count(count, self.num_examples))
        weights = (1,) * len(DIRECTIONS) if self.direction == "mixed" else self._weights
        direction = kinds_of_batch(weights, 0, len(rows))
        drawn = [example_rng(split, int(i)).random(self._drawn) for i in rows]
        items = self._items(split, np.stack(drawn))
        batch = self._batch(direction, items.contents)
        opened = batch.maskable & ~self._shown(direction)
        prompts = np.where(opened, np.int32(self.vocabulary.mask_id), batch.tokens)
        digit = np.where(SHOWN[direction].any(axis=1), items.numbers, -1).astype(np.int32)
        return Examples(canvases=prompts, references=Reference(prompts, digit))

    def with_prompts(self, batch: Batch, seed: int) -> Batch:
        """What each row's direction shows is no longer maskable, whatever the seed."""
        direction = batch.tokens[:, 0] - self.layout.tasks[0]
        return batch._replace(maskable=batch.maskable & ~self._shown(direction))

    def _shown(self, direction: Int[np.ndarray, " n"]) -> Bool[np.ndarray, "n length"]:
        """The content that prompts of these directions show."""
        return by_position(SHOWN[direction], self.stream)

    def _batch(
        self, direction: Int[np.ndarray, " n"], contents: tuple[Int[np.ndarray, "n _"], ...]
    ) -> Batch:
        """Clean sequences, all of whose content is maskable."""
        tokens = canvases(self.layout, direction, contents, self.vocabulary.pad_id)
        return Batch(tokens, by_position((SHOWN | MADE)[direction], self.stream))

    def _items(self, split: str, drawn: Float[np.ndarray, "n digits 3"]) -> Items:
        """The number of each row, and its caption, image and speech, from uniform numbers."""
        splits = split_number(split), self._heard(split)
        if not np.any(self.tokenizer.speech.splits == splits[1]):
            raise MdmError(
                "no speaker is unseen: train with --task.unseen_speakers, or use seen voices"
            )
        return items_of(self.tokenizer, splits, self._grid, drawn)

    def verify(self, canvas: Int[Array | np.ndarray, " length"], reference: Reference) -> Array:
        """Whether all that was made says the digits of the prompt, or the same digits where there are
        none, and the prompt is kept. Pure JAX.
        """
        canvas, prompt = jnp.asarray(canvas), jnp.asarray(reference.canvas)
        opened = prompt == self.vocabulary.mask_id
        made = jnp.stack([jnp.any(opened[span.positions]) for span in self.stream.spans])
        said = self.numbers(canvas)
        wanted = jnp.where(reference.digit < 0, said[0], reference.digit)
        right = jnp.all(~made | (said == wanted)) & (wanted < 10**self.num_digits)
        return right & jnp.all(opened | (prompt == canvas))

    def ceiling(self, split: str) -> str:
        """What the classifiers take for another digit of the split's own images and speech."""
        image = self.tokenizer.error("image", split_number(split))
        speech = self.tokenizer.error("speech", self._heard(split))
        items = "items" if self.num_digits == 1 else "single digits"
        return (
            f"of real {items} the verifier rejects {100 * image:.1f} % of the images and "
            f"{100 * speech:.1f} % of the {self.voices} voices"
        )

    def _heard(self, split: str) -> int:
        """The split of the tokenizer whose speech a split has."""
        unseen = split == "test" and self.voices == "unseen"
        return UNSEEN if unseen else split_number(split)

    def numbers(self, canvas: Int[Array, " length"]) -> Int[Array, "3"]:
        """The digit that caption, image and speech are taken for, of several the number that they are
        written as; 10 ** num_digits: the caption names none.

        Of a modality that the canvas lacks, nothing that has a meaning.
        """
        text, image, speech = (canvas[s.positions] - s.first_id for s in self.stream.spans)
        named = jnp.all(jnp.asarray(caption_table(self.num_digits)) == text, axis=1)
        caption = jnp.where(jnp.any(named), jnp.argmax(named), 10**self.num_digits)
        seen = self._number(apart(image, self._grid), self.tokenizer.image_classifier)
        words = speech.reshape(self.num_digits, -1)
        return jnp.stack([caption, seen, self._number(words, self.tokenizer.speech_classifier)])

    def _number(self, codes: Int[Array, "digits positions"], by: Classifier) -> Int[Array, ""]:
        """The number whose digits the classifier takes these items for."""
        places = jnp.arange(codes.shape[1])
        scores = jnp.asarray(by.weights)[places, codes].sum(axis=1) + by.bias
        return jnp.argmax(scores, axis=1) @ 10 ** jnp.arange(self.num_digits - 1, -1, -1)

    def decode(self, tokens: Int[Array | np.ndarray, " length"]) -> str:
        """The caption, and image and speech drawn in characters; what is masked is `▁`."""
        from mdm_jax.tasks.digits3.media import as_text  # with scipy.signal

        return as_text(np.asarray(tokens), self.stream, self.tokenizer)

    def save_media(
        self, tokens: Int[Array | np.ndarray, " length"], directory: str, stem: str
    ) -> list[str]:
        """Write the image as PNG, the speech as WAV and its spectrogram as PNG; returns their paths."""
        from mdm_jax.tasks.digits3.media import save_media

        return save_media(np.asarray(tokens), self.stream, self.tokenizer, directory, stem)
