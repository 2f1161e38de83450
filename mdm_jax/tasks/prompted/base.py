"""Natural-language prompts for a published checkpoint, and the answers in its responses."""

import abc
import dataclasses
import functools
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Array, Int

from mdm_jax.errors import MdmError
from mdm_jax.tasks.base import Batch, Examples, TextRecord, Vocabulary
from mdm_jax.tasks.canvases import (
    Clean,
    clean_canvases,
    epoch_batch,
    prompt_canvases,
    response_ids,
    show,
)
from mdm_jax.tasks.prompted.tokenizer import TextTokenizer, load_text_tokenizer
from mdm_jax.tasks.splits import checked_count, split_number


class Problem(NamedTuple):
    """A question, a solution to train on (empty: there is none), and the answer to compare with."""

    question: str
    solution: str
    reference: str


class PromptReference(NamedTuple):
    """What the verifier needs of each prompt."""

    answer: np.ndarray  # [n] str
    start: Int[np.ndarray, " n"]  # where the response begins


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompted(abc.ABC):
    """Base of the tasks for published checkpoints, in their own tokenizers.

    A canvas is the prompt, `gen_length` positions (the answer, then EOS), PAD. A response ends before
    its first EOS or end of turn; one that holds MASK or an id without a token is no answer. Text in a
    prompt is text: names of special tokens in it do not become those tokens.

    Args:
      checkpoint: directory with config.json and the tokenizer's files.
      data_dir: where the problems are.
      chat: whether the prompt is a user's turn in the checkpoint's chat template, or plain text.
      opening: beginning of the answer, given as part of the prompt.
      gen_length: positions for the answer.
      prompt_length: positions for the prompt; None: the longest prompt of the test split.
      truncate: keep the end of longer prompts, instead of refusing them. Without it those of the training
        split are left out.
    """

    name: ClassVar[str]
    pure_verifier: ClassVar[bool] = False

    checkpoint: str | None = None
    data_dir: str | None = None
    chat: bool = True
    opening: str = ""
    gen_length: int = 256
    prompt_length: int | None = None
    truncate: bool = False

    def __post_init__(self) -> None:
        if self.gen_length < 2 or (self.prompt_length is not None and self.prompt_length < 1):
            raise MdmError(
                f"gen_length {self.gen_length} must be at least 2 and prompt_length "
                f"{self.prompt_length} at least 1"
            )

    @abc.abstractmethod
    def problems(self, split: str) -> list[Problem]:
        """The problems of a split, in the order of their files."""

    @abc.abstractmethod
    def ask(self, problem: Problem) -> str:
        """The user's turn, or the plain text that an answer continues."""

    @abc.abstractmethod
    def read(self, text: str) -> str | None:
        """The answer in a response; None: there is none."""

    @abc.abstractmethod
    def is_right(self, answer: str, reference: str) -> bool:
        """Whether an answer is correct."""

    @functools.cached_property
    def tokenizer(self) -> TextTokenizer:
        if self.checkpoint is None:
            raise MdmError(
                f"task {self.name} needs the tokenizer of a published checkpoint: pass "
                "--denoiser DIR, or --task.checkpoint DIR"
            )
        return load_text_tokenizer(self.checkpoint)

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        return self.tokenizer.vocabulary

    def identity(self) -> dict[str, str]:
        """What decides the meaning of ids, beside the settings."""
        return self.tokenizer.identity()

    @functools.cached_property
    def length(self) -> int:
        longest = self.prompt_length or max(map(len, self.prompts("test")))
        total, most = longest + self.gen_length, self.tokenizer.max_length
        if total > most:
            raise MdmError(
                f"a canvas of {longest} positions for the prompt and {self.gen_length} for the answer "
                f"exceeds the {most} of the checkpoint: lower --task.gen_length or --task.prompt_length"
            )
        return total

    @functools.cached_property
    def _encoded(self) -> dict[str, list[list[int]]]:
        """Prompts of the splits used so far."""
        return {}

    def prompts(self, split: str) -> list[list[int]]:
        """Ids of every prompt of a split."""
        if split not in self._encoded:
            texts = [self.ask(problem) for problem in self.problems(split)]
            self._encoded[split] = self.tokenizer.encode_prompts(texts, self.chat, self.opening)
        return self._encoded[split]

    def examples(self, split: str = "test", count: int | None = None) -> Examples:
        """Prompts in file order, none left out but those of the training split that are too long.

        A `count` beyond the split gives all of it.

        Raises:
          MdmError: a prompt is longer than `prompt_length` and may not be truncated.
        """
        split_number(split)
        room = self.length - self.gen_length
        pairs = list(zip(self.problems(split), self.prompts(split), strict=True))
        if split == "train" and not self.truncate:
            pairs = [pair for pair in pairs if len(pair[1]) <= room] or pairs
        problems, prompts = zip(*pairs[: checked_count(count, len(pairs))], strict=True)
        lengths = [len(prompt) for prompt in prompts]
        if max(lengths) > room and not self.truncate:
            raise MdmError(
                f"{sum(n > room for n in lengths)} of {len(lengths)} {split} prompts are longer than "
                f"prompt_length {room}, up to {max(lengths)} tokens: raise --task.prompt_length, or "
                "keep only their ends with --task.truncate"
            )
        canvases = prompt_canvases(prompts, room, self.gen_length, self.vocabulary)
        answers = np.array([problem.reference for problem in problems])
        return Examples(canvases, PromptReference(answers, np.minimum(lengths, room)))

    @functools.cached_property
    def _train(self) -> Clean:
        return self._clean("train")

    @functools.cached_property
    def _heldout(self) -> Clean:
        return self._clean("heldout")

    def train_batch(self, seed: int, step: int, size: int) -> Batch:
        """Prompts with their solutions; each epoch sees all of them once."""
        return epoch_batch(self._train, seed, step, size)

    def heldout(self) -> Batch:
        return Batch(tokens=self._heldout.tokens, maskable=self._heldout.maskable)

    def with_prompts(self, batch: Batch, seed: int) -> Batch:
        """The batch as it is: its prompts are never maskable."""
        return batch

    def _clean(self, split: str) -> Clean:
        solutions = [problem.solution for problem in self.problems(split)]
        if not all(solutions):
            raise MdmError(
                f"{solutions.count('')} of {len(solutions)} {split} problems have no solution to "
                "train on"
            )
        answers = self.tokenizer.encode_text(solutions, bare=True)
        pairs = list(zip(self.prompts(split), answers, strict=True))
        room = self.length - self.gen_length
        clean = clean_canvases(pairs, room, self.gen_length, self.vocabulary)
        if not len(clean.tokens):
            raise MdmError(
                f"none of the {len(pairs)} {split} problems fits prompt_length {room} and gen_length "
                f"{self.gen_length}: raise them"
            )
        return clean

    def response_text(self, canvas: Int[Array | np.ndarray, " length"], start: int) -> str | None:
        """The response up to its end; None where it holds MASK or an id without a token."""
        ids = response_ids(canvas, start, self.gen_length, self.vocabulary)
        return self.tokenizer.decode(ids) if self.tokenizer.is_text(ids) else None

    def verify(
        self, canvas: Int[Array | np.ndarray, " length"], reference: PromptReference
    ) -> bool:
        """Whether the answer in the response is correct."""
        text = self.response_text(canvas, int(reference.start))
        answer = None if text is None else self.read(text)
        return answer is not None and self.is_right(answer, str(reference.answer))

    def text_record(
        self, canvas: Int[Array | np.ndarray, " length"], reference: PromptReference
    ) -> TextRecord:
        """Prompt, response, the answer extracted from it, and the reference."""
        start = int(reference.start)
        text = self.response_text(canvas, start)
        return TextRecord(
            prompt=self.tokenizer.decode(np.asarray(canvas)[:start].tolist(), special=True),
            text=self.decode(np.asarray(canvas)[start:]) if text is None else text,
            answer=None if text is None else self.read(text),
            reference=str(reference.answer),
        )

    def decode(self, tokens: Int[Array | np.ndarray, " length"]) -> str:
        """Text without special tokens; MASK is `▁`, a run of EOS `∎`, an id without token `�`."""
        return show(np.asarray(tokens).tolist(), self._sign, self.tokenizer.decode)

    def _sign(self, token: int) -> str | None:
        vocabulary = self.vocabulary
        signs = {vocabulary.eos_id: "∎", vocabulary.mask_id: "▁", vocabulary.pad_id: ""}
        if token in signs:
            return signs[token]
        return None if self.tokenizer.is_text([token]) else "\N{REPLACEMENT CHARACTER}"
