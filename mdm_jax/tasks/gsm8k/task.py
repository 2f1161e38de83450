"""GSM8K for denoisers trained from scratch: answered in natural language or in equations alone."""

import dataclasses
import functools
import itertools
from typing import ClassVar

import numpy as np
from jaxtyping import Array, Int

from mdm_jax.checksums import text_digest
from mdm_jax.errors import MdmError
from mdm_jax.tasks.base import Batch, Examples, Vocabulary
from mdm_jax.tasks.canvases import (
    Clean,
    clean_canvases,
    epoch_batch,
    prompt_canvases,
    response_ids,
    show,
)
from mdm_jax.tasks.gsm8k.data import AnswerFormat, Item, load_items
from mdm_jax.tasks.gsm8k.scorer import is_correct
from mdm_jax.tasks.gsm8k.tokenizer import BpeTokenizer, load_tokenizer, train_tokenizer
from mdm_jax.tasks.splits import checked_count, split_number

# they cover 97 % and 99 % of the official training answers with the default vocabulary
_GEN_LENGTH = {"solution": 224, "equations": 96}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gsm8k:
    """Answer a word problem (Cobbe et al., arXiv:2110.14168).

    A canvas is the question, one separator token, `gen_length` positions (the answer, then EOS),
    PAD. About 5 % of the official training file is held out, by a hash of the question.

    Args:
      data_dir: directory with the official train.jsonl and test.jsonl; None: TFDS fetches them.
      answers: "solution", the official text without its `<<48/2=24>>` annotations, or "equations",
        those alone, `<<48/2=24>> <<48+24=72>> #### 72` (the number without thousands separators).
      vocab_size: of the BPE tokenizer trained on the training split in the chosen format.
      tokenizer_file: a tokenizer.json saved by `tokenizer.save`; None: train it.
      prompt_length: positions for the question and the separator. Longer items are dropped from
        training and heldout (see `dropped`); prompts keep the end of the question.
      answer_length: positions for the answer with at least one EOS; None: 224 or 96 by format.
      count_padding: whether all of them are maskable, or those up to the first EOS only.
      cache_dir: as in `data.load_items`.
    """

    name: ClassVar[str] = "gsm8k"
    pure_verifier: ClassVar[bool] = False

    data_dir: str | None = None
    answers: AnswerFormat = "solution"
    vocab_size: int = 2048
    tokenizer_file: str | None = None
    prompt_length: int = 192
    answer_length: int | None = None
    count_padding: bool = True
    cache_dir: str | None = None

    def __post_init__(self):
        if self.answers not in _GEN_LENGTH:
            raise MdmError(f"answers {self.answers!r} must be one of {', '.join(_GEN_LENGTH)}")
        if self.prompt_length < 2 or self.gen_length < 2:
            raise MdmError(
                f"prompt_length {self.prompt_length} and answer_length {self.gen_length} "
                "must be at least 2"
            )

    @property
    def gen_length(self) -> int:
        return self.answer_length or _GEN_LENGTH[self.answers]

    @property
    def length(self) -> int:
        return self.prompt_length + self.gen_length

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(size=self.tokenizer.size, eos_id=self.tokenizer.eos_id)

    @property
    def dropped(self) -> dict[str, int]:
        """How many items of train and of heldout are left out because they are too long."""
        return {"train": self._train.dropped, "heldout": self._heldout.dropped}

    @functools.cached_property
    def items(self) -> dict[str, list[Item]]:
        """The problems of each split, in the order of their files."""
        return load_items(self.data_dir, self.cache_dir)

    @functools.cached_property
    def tokenizer(self) -> BpeTokenizer:
        if self.tokenizer_file is not None:
            return load_tokenizer(self.tokenizer_file)
        pairs = ((item.question, item.formatted(self.answers)) for item in self.items["train"])
        return train_tokenizer(itertools.chain.from_iterable(pairs), self.vocab_size)

    def identity(self) -> dict[str, str]:
        """What decides the meaning of ids, beside the settings."""
        return {"tokenizer": text_digest(self.tokenizer.inner.to_str())}

    @functools.cached_property
    def _train(self) -> Clean:
        return self._clean("train")

    @functools.cached_property
    def _heldout(self) -> Clean:
        return self._clean("heldout")

    def train_batch(self, seed: int, step: int, size: int) -> Batch:
        """Each epoch sees every item once, in an order drawn from (seed, epoch)."""
        return epoch_batch(self._train, seed, step, size)

    def heldout(self) -> Batch:
        return Batch(tokens=self._heldout.tokens, maskable=self._heldout.maskable)

    def examples(self, split: str = "test", count: int | None = None) -> Examples:
        """Prompts in file order, none left out; references are the gold numbers as strings.

        A `count` beyond the split gives all of it.
        """
        split_number(split)
        items = self.items[split][: checked_count(count, len(self.items[split]))]
        canvases = prompt_canvases(
            self._prompts(items), self.prompt_length, self.gen_length, self.vocabulary
        )
        return Examples(canvases=canvases, references=np.array([item.gold for item in items]))

    def with_prompts(self, batch: Batch, seed: int) -> Batch:
        """The batch as it is: its prompts are never maskable."""
        return batch

    def _prompts(self, items: list[Item]) -> list[list[int]]:
        encoded = self.tokenizer.encode([item.question for item in items])
        return [[*question, self.tokenizer.separator_id] for question in encoded]

    def _clean(self, split: str) -> Clean:
        items = self.items[split]
        answers = self.tokenizer.encode([item.formatted(self.answers) for item in items])
        clean = clean_canvases(
            list(zip(self._prompts(items), answers, strict=True)),
            self.prompt_length,
            self.gen_length,
            self.vocabulary,
            count_padding=self.count_padding,
        )
        if not len(clean.tokens):
            raise MdmError(
                f"none of the {len(items)} {split} items fits prompt_length {self.prompt_length} "
                f"and answer_length {self.gen_length}: raise them, or give more data"
            )
        return clean

    def response_text(self, canvas: Int[Array | np.ndarray, " length"]) -> str | None:
        """The answer before its first EOS; None if no separator, or one too many, or a MASK is left."""
        canvas = np.asarray(canvas)
        separators = np.flatnonzero(canvas == self.tokenizer.separator_id)
        if not len(separators):
            return None
        live = response_ids(canvas, int(separators[0]) + 1, self.gen_length, self.vocabulary)
        separator = self.tokenizer.separator_id
        is_text = all(i < self.vocabulary.size and i != separator for i in live)
        return self.tokenizer.decode(live) if is_text else None

    def verify(self, canvas: Int[Array | np.ndarray, " length"], reference: str) -> bool:
        """Whether the answer is the gold number, by the rules of `scorer`."""
        text = self.response_text(canvas)
        return text is not None and is_correct(text, str(reference))

    def decode(self, tokens: Int[Array | np.ndarray, " length"]) -> str:
        """Question, a new line, answer; MASK is `▁`, a run of EOS is `∎`."""
        vocabulary = self.vocabulary
        marks = {vocabulary.eos_id: "∎", vocabulary.mask_id: "▁", vocabulary.pad_id: ""}
        marks[self.tokenizer.separator_id] = "\n"
        return show(np.asarray(tokens).tolist(), marks.get, self.tokenizer.decode)
