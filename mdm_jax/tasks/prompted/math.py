r"""MATH and what is stored like it: problems with an answer in `\boxed{}`."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import ClassVar

from mdm_jax.tasks.prompted.base import Problem, Prompted
from mdm_jax.tasks.prompted.boxed import all_boxed, is_same
from mdm_jax.tasks.splits import hold_out

INSTRUCTION = (
    "Solve the problem below step by step and put the final answer, simplified, in \\boxed{}."
)
_FIELDS = (
    'expected one JSON object with texts "problem" and "solution" (and "answer", if it is apart)'
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptedMath(Prompted):
    r"""Answer a competition problem in `\boxed{}` (MATH, Hendrycks et al., arXiv:2103.03874).

    The last box counts, compared as `boxed.is_same`.

    Args:
      data_dir: directory with test.jsonl, and train.jsonl to learn from. A line has "problem",
        "solution", whose last box is the reference, or "answer" for one apart.
      instruction: what is said before the problem.
    """

    name: ClassVar[str] = "math"

    instruction: str = INSTRUCTION

    @functools.cached_property
    def _files(self) -> dict[str, list[Problem]]:
        return {}

    def problems(self, split: str) -> list[Problem]:
        name = "test" if split == "test" else "train"
        if name not in self._files:
            self._files[name] = read_problems(self.data_dir, name)
        problems = self._files[name]
        if split == "test":
            return problems
        return hold_out(problems, [problem.question for problem in problems])[split]

    def ask(self, problem: Problem) -> str:
        return f"{self.instruction}\n\n{problem.question}"

    def read(self, text: str) -> str | None:
        boxes = all_boxed(self.opening + text)
        return boxes[-1].strip() if boxes else None

    def is_right(self, answer: str, reference: str) -> bool:
        return is_same(answer, reference)


def read_problems(data_dir: str | None, name: str) -> list[Problem]:
    """The problems of a file; what is missing or malformed is named by file and line."""
    if data_dir is None:
        raise ValueError("math needs its problems: pass a directory with test.jsonl as --data_dir")
    path = Path(data_dir).expanduser() / f"{name}.jsonl"
    if not path.is_file():
        raise ValueError(f"{path} does not exist: {_FIELDS} on each line of it")
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines:
        raise ValueError(f"{path} is empty: {_FIELDS} on each line of it")
    return [_problem(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def _problem(line: str, where: str) -> Problem:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where} is not JSON ({error}): {_FIELDS}") from error
    texts = [record.get(key) for key in ("problem", "solution")] if isinstance(record, dict) else []
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"{where}: {_FIELDS}")
    boxes = all_boxed(record["solution"])
    reference = record.get("answer") or (boxes[-1] if boxes else None)
    if reference is None:
        raise ValueError(f"{where}: no answer in a box, and none apart: {_FIELDS}")
    return Problem(record["problem"], record["solution"], str(reference))
