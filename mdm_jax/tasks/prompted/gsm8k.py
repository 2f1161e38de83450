r"""GSM8K for published checkpoints, zero-shot or few-shot.

Zero-shot prompts are those of the evaluations of arXiv:2512.09106: step by step, the number in a box
inside `<answer>` tags. Few-shot prompts are those of lm-evaluation-harness: `Question: ... Answer: ...`,
the official solutions as they are, the number after `####`.
"""

import dataclasses
import functools
import re
from typing import ClassVar

from mdm_jax.errors import MdmError
from mdm_jax.tasks.gsm8k.data import Item, load_items
from mdm_jax.tasks.gsm8k.scorer import extract_answer, extract_tagged
from mdm_jax.tasks.prompted.base import Problem, Prompted

INSTRUCTION = (
    "You are a careful mathematician. Solve the problem below step by step and put the final number "
    "in \\boxed{}. Answer in this form:\n"
    "<reasoning>\nyour steps\n</reasoning>\n<answer>\n\\boxed{the number}\n</answer>"
)
_NEXT_QUESTION = re.compile(r"^\s*(?:Question|Problem|Q)\s*[0-9]*\s*:", re.MULTILINE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptedGsm8k(Prompted):
    """Answer a word problem (Cobbe et al., arXiv:2110.14168) in natural language.

    Args:
      data_dir: directory with the official train.jsonl and test.jsonl; None: TFDS fetches them.
      shots: few-shot examples before the question, the first ones of the training split.
      instruction: precedes the question of a zero-shot prompt.
      cache_dir: as in `gsm8k.data.load_items`.
    """

    name: ClassVar[str] = "gsm8k"

    shots: int = 0
    instruction: str = INSTRUCTION
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shots < 0:
            raise MdmError(f"shots must be >= 0, got {self.shots}")

    @functools.cached_property
    def _items(self) -> dict[str, list[Item]]:
        return load_items(self.data_dir, self.cache_dir)

    @functools.cached_property
    def _few_shot(self) -> list[Item]:
        """The examples before every question; they are left out of the training split."""
        train = self._items["train"]
        if self.shots >= len(train):
            raise MdmError(f"{self.shots} shots leave none of the {len(train)} training problems")
        return train[: self.shots]

    def problems(self, split: str) -> list[Problem]:
        shown = len(self._few_shot) if split == "train" else 0
        return [self._problem(item) for item in self._items[split][shown:]]

    def _problem(self, item: Item) -> Problem:
        if self.shots:
            return Problem(item.question, f" {item.answer}", item.gold)
        steps = item.formatted("solution").rpartition("\n####")[0]
        solution = (
            f"<reasoning>\n{steps}\n</reasoning>\n<answer>\n\\boxed{{{item.gold}}}\n</answer>"
        )
        return Problem(item.question, solution.removeprefix(self.opening), item.gold)

    def ask(self, problem: Problem) -> str:
        if not self.shots:
            return f"{self.instruction}\n\n{problem.question}"
        shots = [f"Question: {item.question}\nAnswer: {item.answer}\n\n" for item in self._few_shot]
        return "".join([*shots, f"Question: {problem.question}\nAnswer:"])

    def read(self, text: str) -> str | None:
        """The number, by the rule that goes with the prompt.

        Few-shot, a base model continues with problems of its own: the number is the one after the
        first `####`, and nothing from a next question on counts.
        """
        if self.shots:
            number = extract_answer(_NEXT_QUESTION.split(text, maxsplit=1)[0], which="first")
        else:
            number = extract_tagged(self.opening + text)
        return None if number is None else str(number)

    def is_right(self, answer: str, reference: str) -> bool:
        return extract_answer(f"#### {answer}") == extract_answer(f"#### {reference}")
