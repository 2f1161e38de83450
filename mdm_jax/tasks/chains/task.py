"""Chains of arithmetic in the equations-only style of GSM8K: made on the fly, verified in JAX."""

import dataclasses
import re
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from mdm_jax.errors import MdmError
from mdm_jax.sampling.canvas import before_eos
from mdm_jax.tasks.base import Batch, Examples, Vocabulary
from mdm_jax.tasks.chains.programs import OPERATORS, Program, draw_programs, outcomes
from mdm_jax.tasks.splits import batch_rng, checked_count, example_rng, split_number

_TOKENS = (*"0123456789", *OPERATORS, " ", "=", "<<", ">>", "####", "=?")
_IDS = {token: i for i, token in enumerate(_TOKENS)}
_SHOWN = {">>": ">> ", "####": "#### ", "=?": " =? "}
_VOCABULARY = Vocabulary(size=len(_TOKENS) + 1, eos_id=len(_TOKENS))
_NO_DIGIT = -1
_BLOCK = 256  # programs drawn at a time, always as many, so that fewer examples are a prefix


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chains:
    """Evaluate `7 +5 *2 -3`, strictly left to right, writing every step down.

    Prompt `7 +5 *2 -3 =?`, answer `<<7+5=12>> <<12*2=24>> <<24-3=21>> #### 21`; one token per
    character, but `<<`, `>>`, `####`, `=?` are single tokens, and the spaces around them are only
    drawn. A canvas is the prompt, `gen_length` positions (the answer, then EOS), PAD. The splits
    share no program: a hash of the prompt assigns it.

    Args:
      depth: number of operations.
      max_operand: operands and the first number are 1..max_operand.
      operators: some of `+-*/`; each step is a uniform legal (operator, operand) pair.
      max_value: every intermediate value is a whole number in 0..max_value.
      num_examples: heldout sequences, and prompts of a split without a count.
    """

    name: ClassVar[str] = "chains"
    pure_verifier: ClassVar[bool] = True

    depth: int = 3
    max_operand: int = 9
    operators: str = "+-*"
    max_value: int = 99
    num_examples: int = 256

    def __post_init__(self):
        if self.depth < 1 or self.num_examples < 1:
            raise MdmError(
                f"depth {self.depth} and num_examples {self.num_examples} must be at least 1"
            )
        if not 1 <= self.max_operand <= min(self.max_value, 999) or self.max_value > 99_999:
            raise MdmError(
                f"max_operand {self.max_operand} and max_value {self.max_value} must satisfy "
                "1 <= max_operand <= max_value, max_operand <= 999, max_value <= 99999"
            )
        known = set(self.operators) <= set(OPERATORS)
        if not self.operators or not known or len(set(self.operators)) < len(self.operators):
            raise MdmError(f"operators {self.operators!r} must be some of {OPERATORS}, each once")
        # where any operand is legal, 1 is
        every_value = np.arange(self.max_value + 1)
        stuck = ~outcomes(every_value, self.operators, 1, self.max_value)[1].any(axis=1)
        if stuck.any():
            raise MdmError(
                f"operators {self.operators!r} allow no step from the value {stuck.argmax()} "
                f"that stays in 0..{self.max_value}: add another operator"
            )

    @property
    def vocabulary(self) -> Vocabulary:
        return _VOCABULARY

    @property
    def prompt_length(self) -> int:
        """Tokens of the longest prompt."""
        operand = len(str(self.max_operand))
        return operand + self.depth * (2 + operand) + 1

    @property
    def gen_length(self) -> int:
        """Tokens that the longest answer can need, with one EOS."""
        operand, value = len(str(self.max_operand)), len(str(self.max_value))
        return self.depth * (2 * value + operand + 4) + 1 + value + 1

    @property
    def length(self) -> int:
        return self.prompt_length + self.gen_length

    def train_batch(self, seed: int, step: int, size: int) -> Batch:
        return self._batch(self._programs(batch_rng(seed, step), "train", size))

    def heldout(self) -> Batch:
        rng = example_rng("heldout", 0)
        return self._batch(self._programs(rng, "heldout", self.num_examples))

    def examples(self, split: str = "test", count: int | None = None) -> Examples:
        """Prompts, any number of them; a reference is the digits of the answer, padded with -1."""
        split_number(split)
        count = checked_count(count, self.num_examples)
        programs = self._programs(example_rng(split, 1), split, count)
        tokens, maskable = self._batch(programs)
        digits = len(str(self.max_value)) + 1
        answers = [[int(d) for d in str(program.values[-1])] for program in programs]
        padded = [answer + [_NO_DIGIT] * (digits - len(answer)) for answer in answers]
        canvases = np.where(maskable, np.int32(self.vocabulary.mask_id), tokens)
        return Examples(canvases=canvases, references=np.array(padded, np.int32))

    def with_prompts(self, batch: Batch, seed: int) -> Batch:
        """The batch as it is: its prompts are never maskable."""
        return batch

    def _programs(self, rng: np.random.Generator, split: str, count: int) -> list[Program]:
        found: list[Program] = []
        settings = {k: getattr(self, k) for k in ("depth", "operators", "max_operand", "max_value")}
        for _ in range(20 + count):
            found += [p for p in draw_programs(rng, _BLOCK, **settings) if p.split == split]
            if len(found) >= count:
                return found[:count]
        raise MdmError(
            f"found only {len(found)} of {count} programs of the {split} split with depth "
            f"{self.depth}, max_operand {self.max_operand}, operators {self.operators!r}: "
            "raise depth or max_operand"
        )

    def _batch(self, programs: list[Program]) -> Batch:
        tokens = np.full((len(programs), self.length), self.vocabulary.pad_id, np.int32)
        maskable = np.zeros(tokens.shape, bool)
        for row, program in enumerate(programs):
            prompt, answer = encode(program.prompt), encode(program.solution)
            end = len(prompt) + self.gen_length
            tokens[row, :end] = self.vocabulary.eos_id
            tokens[row, : len(prompt) + len(answer)] = prompt + answer
            maskable[row, len(prompt) : end] = True
        return Batch(tokens=tokens, maskable=maskable)

    def verify(
        self,
        canvas: Int[Array | np.ndarray, " length"],
        reference: Int[Array | np.ndarray, " digits"],
    ) -> Bool[Array, ""]:
        """Whether the right answer was given. Pure JAX.

        The response starts after the first `=?` and ends before its first EOS. What follows its
        last `####` must be the digits of the answer and nothing else; the equations before it are
        not checked.
        """
        canvas, position = jnp.asarray(canvas), jnp.arange(self.length)
        start = jnp.argmax(canvas == _IDS["=?"]) + 1
        is_response = (position >= start) & (position < start + self.gen_length)
        is_live = before_eos(canvas, is_response, self.vocabulary.eos_id)
        marker = jnp.max(jnp.where(is_live & (canvas == _IDS["####"]), position, -1))
        where = marker + 1 + jnp.arange(len(reference))
        given = jnp.where(is_live, canvas, _NO_DIGIT).at[where].get(mode="fill", fill_value=-1)
        return (marker >= 0) & (given == jnp.asarray(reference)).all()

    def decode(self, tokens: Int[Array | np.ndarray, " length"]) -> str:
        """The text; MASK is `▁` and a run of EOS is `∎`."""
        shown = [_SHOWN.get(token, token) for token in _TOKENS] + ["∎", "▁", ""]
        return re.sub("∎+", "∎", "".join(shown[token] for token in np.asarray(tokens).tolist()))


def encode(text: str) -> list[int]:
    """The ids of a prompt or a solution."""
    return [_IDS[token] for token in re.findall(r"<<|>>|####|=\?|.", text)]
