r"""MATH and what is stored like it: problems with an answer in `\boxed{}`."""

import dataclasses
import functools
from typing import Any, ClassVar

from mdm_jax.errors import MdmError
from mdm_jax.external_files import expand, parse_json, read_text, split_lines
from mdm_jax.tasks.latex import all_boxed
from mdm_jax.tasks.prompted.base import Problem, Prompted
from mdm_jax.tasks.prompted.math_equality import is_same
from mdm_jax.tasks.splits import hold_out

INSTRUCTION = (
    "Solve the problem below step by step and put the final answer, simplified, in \\boxed{}."
)
_EXPECTED = (
    'expected one JSON object with "problem", and "solution" with the answer in a box or "answer"'
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptedMath(Prompted):
    r"""Answer a competition problem in `\boxed{}` (MATH, Hendrycks et al., arXiv:2103.03874).

    The last box counts, compared by `math_equality.is_same`.

    Args:
      data_dir: directory with test.jsonl, and train.jsonl to learn from. Each line has "problem" and a
        reference: "answer", or the last box of "solution". Training needs solutions.
      instruction: precedes the problem.
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
    """The problems of NAME.jsonl.

    Raises:
      MdmError: no such file, or a malformed line, which is named.
    """
    if data_dir is None:
        raise MdmError("math needs its problems: pass a directory with test.jsonl as --data_dir")
    path = expand(data_dir) / f"{name}.jsonl"
    if not path.is_file():
        raise MdmError(f"{path} does not exist: {_EXPECTED} on each line of it")
    return [
        _problem(parse_json(line, where), where)
        for line, where in split_lines(read_text(path), path)
    ]


def _problem(record: Any, where: str) -> Problem:
    if not isinstance(record, dict) or not _is_text(record.get("problem")):
        raise MdmError(f"{where}: {_EXPECTED}")
    solution, reference = record.get("solution"), record.get("answer")
    if solution is not None and not isinstance(solution, str):
        raise MdmError(f"{where}: {_EXPECTED}")
    if reference is None or reference == "":
        boxes = all_boxed(solution or "")
        reference = boxes[-1] if boxes else None
    if isinstance(reference, bool) or not isinstance(reference, str | int | float):
        raise MdmError(f'{where}: no answer in a box of "solution", and none under "answer"')
    return Problem(record["problem"], solution or "", str(reference))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
