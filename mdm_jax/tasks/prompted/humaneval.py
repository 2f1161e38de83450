"""HumanEval for published checkpoints: complete a Python function, scored by running its tests."""

import dataclasses
import functools
import gzip
import re
import zlib
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from mdm_jax.checksums import text_digest
from mdm_jax.errors import MdmError
from mdm_jax.external_files import check_not_pointer, decode, expand, parse_json, split_lines
from mdm_jax.tasks.prompted.base import Problem, Prompted
from mdm_jax.tasks.prompted.code import extract_code, hoist_future_imports
from mdm_jax.tasks.prompted.programs import Limits, passes

INSTRUCTION = "Complete the Python function below. Give the whole function in one block of code."
_FILES = ("HumanEval.jsonl.gz", "HumanEval.jsonl")
_KEYS = ("task_id", "prompt", "canonical_solution", "test", "entry_point")
# where a plain completion stops: what follows its function (Chen et al., section 3)
_NEXT = re.compile(r"\n(?:class |def |#|if |print|@|```)")


class Exercise(NamedTuple):
    """One line of the file, as published."""

    task_id: str
    prompt: str
    canonical_solution: str
    test: str
    entry_point: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class HumanEval(Prompted):
    """Complete a function (Chen et al., arXiv:2107.03374); there is a test split only.

    Generated programs are run only with `execute`; `programs.passes` says what contains them and what
    does not. It is not a security sandbox.

    Args:
      data_dir: directory with HumanEval.jsonl.gz or HumanEval.jsonl, or the file.
      instruction: precedes the function in a chat.
      execute: run the generated programs against the tests of their exercises.
      limits: of each run.
    """

    name: ClassVar[str] = "humaneval"

    instruction: str = INSTRUCTION
    execute: bool = False
    limits: Limits = dataclasses.field(default_factory=Limits)

    @functools.cached_property
    def _exercises(self) -> dict[str, Exercise]:
        """Exercises by what the verifier is given: another test is another reference."""
        found = read_exercises(self.data_dir)
        return {f"{name} {text_digest(one.test, 8)}": one for name, one in found.items()}

    @property
    def can_verify(self) -> bool:
        """Whether `verify` may be called."""
        return self.execute

    def problems(self, split: str) -> list[Problem]:
        if split != "test":
            raise MdmError(f"humaneval has a test split only, no {split}")
        return [
            Problem(exercise.prompt, exercise.canonical_solution, reference)
            for reference, exercise in self._exercises.items()
        ]

    def ask(self, problem: Problem) -> str:
        if not self.chat:
            return problem.question
        return f"{self.instruction}\n\n```python\n{problem.question}```"

    def read(self, text: str) -> str | None:
        """The code of a response: in a chat by `extract_code`, else up to the next definition."""
        if not self.chat:
            return _NEXT.split(text.replace("\r\n", "\n"), maxsplit=1)[0]
        return extract_code(self.opening + text)

    def is_right(self, answer: str, reference: str) -> bool:
        """Whether the code passes the tests of the exercise.

        Raises:
          MdmError: without `execute`.
        """
        if not self.execute:
            raise MdmError("generated programs are run only on request: pass --task.execute")
        return passes(program(answer, self._exercises[reference]), self.limits)


def program(code: str, exercise: Exercise) -> str:
    """A program that fails unless `code` passes the exercise's tests.

    Code that does not define the function is taken as the continuation of the prompt. As in the
    official scorer it does not run as `__main__`, so a demonstration under a main guard is skipped.
    """
    definition = _definition(exercise.entry_point)
    whole = exercise.prompt + code
    if definition.search(code):
        preamble = exercise.prompt[: definition.search(exercise.prompt).start()]
        whole = hoist_future_imports(preamble + code)
    return f"{whole}\n\n{exercise.test}\n\ncheck({exercise.entry_point})\n"


def _definition(name: str) -> re.Pattern:
    return re.compile(rf"^def {re.escape(name)}\b", re.MULTILINE)


def read_exercises(data_dir: str | None) -> dict[str, Exercise]:
    """The exercises by their task_id.

    Raises:
      MdmError: no such file, or a malformed line, which is named.
    """
    if data_dir is None:
        raise MdmError(f"humaneval needs {_FILES[0]}: pass its directory as --data_dir")
    where = expand(data_dir)
    paths = [where] if where.is_file() else [where / name for name in _FILES]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise MdmError(f"{where} has no {' or '.join(_FILES)}")
    lines = split_lines(_read(path), path)
    exercises = [_exercise(parse_json(line, at), at) for line, at in lines]
    return {exercise.task_id: exercise for exercise in exercises}


def _read(path: Path) -> str:
    try:
        check_not_pointer(path)
        content = path.read_bytes()
        return decode(gzip.decompress(content) if path.suffix == ".gz" else content, path)
    except (OSError, EOFError, zlib.error) as error:
        raise MdmError(f"{path} cannot be read: {error}") from error


def _exercise(record: Any, where: str) -> Exercise:
    if not isinstance(record, dict) or not all(isinstance(record.get(k), str) for k in _KEYS):
        raise MdmError(f"{where}: expected a JSON object with texts {', '.join(_KEYS)}")
    exercise = Exercise(*(record[key] for key in _KEYS))
    if not _definition(exercise.entry_point).search(exercise.prompt):
        raise MdmError(f"{where}: the prompt does not define {exercise.entry_point}")
    return exercise
