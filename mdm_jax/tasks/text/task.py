"""Plain text by the character, such as text8: windows to model and gaps to fill."""

import dataclasses
import functools
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from mdm_jax.checksums import text_digest
from mdm_jax.errors import MdmError
from mdm_jax.external_files import expand, read_text
from mdm_jax.tasks.base import Batch, Examples, Vocabulary
from mdm_jax.tasks.splits import SPLITS, batch_rng, checked_count, split_number

_MOST_CHARACTERS = 512
_TRAIN, _HELDOUT = 0.90, 0.95  # where the training part and the heldout part end


class _Corpus(NamedTuple):
    """The distinct characters of the training part, and the ids of train, heldout and test."""

    characters: str
    parts: dict[str, Int[np.ndarray, "_"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text8:
    """Model windows of any plain text, and fill a gap exactly as its author wrote.

    The first 90 % of the characters are for training, then 5 % heldout, 5 % test. The ids are the
    distinct characters of the training part, sorted, and after them one for all unseen ones. All
    positions may be masked; no EOS.

    Args:
      data_dir: a UTF-8 text file, or a directory whose .txt files are joined in order of name.
      length: characters in a window.
      gap: masked characters in the middle of a prompt.
      num_examples: prompts of a split without a count.
    """

    name: ClassVar[str] = "text8"
    pure_verifier: ClassVar[bool] = True

    data_dir: str | None = None
    length: int = 128
    gap: int = 8
    num_examples: int = 256

    def __post_init__(self):
        if not 1 <= self.gap < self.length:
            raise MdmError(f"gap {self.gap} must be at least 1, below the length {self.length}")
        if self.num_examples < 1:
            raise MdmError(f"num_examples {self.num_examples} must be at least 1")

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(size=len(self._corpus.characters) + 1)

    @property
    def gen_length(self) -> None:
        return None

    @functools.cached_property
    def _corpus(self) -> _Corpus:
        text = read_corpus(self.data_dir)
        codes = np.frombuffer(text.encode("utf-32-le"), np.int32)
        ends = [round(len(codes) * _TRAIN), round(len(codes) * _HELDOUT)]
        parts = dict(zip(SPLITS, np.split(codes, ends), strict=True))
        for name, part in parts.items():
            if len(part) < self.length:
                raise MdmError(
                    f"{self.data_dir}: the {name} part has {len(part)} of {len(codes)} characters, "
                    f"fewer than one window of {self.length}: give a longer text or a smaller "
                    "--length"
                )
        seen = np.unique(parts["train"])
        if len(seen) > _MOST_CHARACTERS:
            raise MdmError(
                f"{self.data_dir}: {len(seen)} distinct characters in the training part, more than "
                f"{_MOST_CHARACTERS}: characters are the tokens here, so normalise the text first"
            )
        return _Corpus("".join(map(chr, seen)), {n: _ids(p, seen) for n, p in parts.items()})

    def identity(self) -> dict[str, str]:
        """What decides the meaning of ids, beside the settings."""
        return {"characters": text_digest(self._corpus.characters)}

    def train_batch(self, seed: int, step: int, size: int) -> Batch:
        """Windows at uniform offsets of the training part."""
        part = self._corpus.parts["train"]
        starts = batch_rng(seed, step).integers(len(part) - self.length + 1, size=size)
        return self._batch(part[starts[:, None] + np.arange(self.length)])

    def heldout(self) -> Batch:
        """All windows of the heldout part, one after another."""
        return self._batch(self._windows("heldout"))

    def examples(self, split: str = "test", count: int | None = None) -> Examples:
        """Windows with a gap, in a fixed random order; references are the windows without it.

        Windows do not overlap; a `count` beyond their number gives all of them.
        """
        split_number(split)
        windows = self._windows(split)
        order = np.random.default_rng(0).permutation(len(windows))
        references = windows[order[: checked_count(count, self.num_examples)]]
        canvases = references.copy()
        canvases[:, self._open] = self.vocabulary.mask_id
        return Examples(canvases=canvases, references=references)

    def with_prompts(self, batch: Batch, seed: int) -> Batch:
        """What is around the gap of `examples` is shown, whatever the seed."""
        maskable = np.zeros_like(batch.maskable)
        maskable[:, self._open] = batch.maskable[:, self._open]
        return batch._replace(maskable=maskable)

    @property
    def _open(self) -> slice:
        """The positions of the gap."""
        start = (self.length - self.gap) // 2
        return slice(start, start + self.gap)

    def _windows(self, split: str) -> Int[np.ndarray, "windows length"]:
        part = self._corpus.parts[split]
        number = len(part) // self.length
        return part[: number * self.length].reshape(number, self.length).astype(np.int32)

    def _batch(self, tokens: Int[np.ndarray, "batch length"]) -> Batch:
        return Batch(tokens=tokens.astype(np.int32), maskable=np.ones(tokens.shape, bool))

    def verify(
        self,
        canvas: Int[Array | np.ndarray, " length"],
        reference: Int[Array | np.ndarray, " length"],
    ) -> Bool[Array, ""]:
        """Whether every character is the author's. Pure JAX."""
        return (jnp.asarray(canvas) == jnp.asarray(reference)).all()

    def decode(self, tokens: Int[Array | np.ndarray, " length"]) -> str:
        """The text; MASK is `▁`, a character unseen in training is `\N{REPLACEMENT CHARACTER}`."""
        shown = [*self._corpus.characters, "\N{REPLACEMENT CHARACTER}", "▁", ""]
        return "".join(shown[token] for token in np.asarray(tokens).tolist())


def read_corpus(data_dir: str | None) -> str:
    """The text of a file, or of the .txt files of a directory in order of name."""
    if data_dir is None:
        raise MdmError("text8 needs a text: pass a .txt file or a directory of them as --data_dir")
    path = expand(data_dir)
    files = [path] if path.is_file() else sorted(path.glob("*.txt"))
    if not files:
        problem = "has no .txt file" if path.is_dir() else "does not exist"
        raise MdmError(f"{path} {problem}: pass a text file or a directory of .txt files")
    return "".join(map(read_text, files))


def _ids(codes: Int[np.ndarray, "_"], seen: Int[np.ndarray, "_"]) -> Int[np.ndarray, "_"]:
    """Index of each code among the seen ones (sorted); their number for a code that is not."""
    places = np.searchsorted(seen, codes).clip(max=len(seen) - 1)
    return np.where(seen[places] == codes, places, len(seen)).astype(np.int16)
