"""HumanEval put to a published checkpoint: complete a Python function, judged by running its tests."""

import dataclasses
import functools
import gzip
import json
import re
from pathlib import Path
from typing import ClassVar, NamedTuple

from mdm_jax.tasks.prompted.base import Problem, Prompted
from mdm_jax.tasks.prompted.programs import Limits, passes

INSTRUCTION = "Complete the Python function below. Give the whole function in one block of code."
_FILES = ("HumanEval.jsonl.gz", "HumanEval.jsonl")
_KEYS = ("task_id", "prompt", "canonical_solution", "test", "entry_point")
_FENCED = re.compile(r"```[A-Za-z]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
# what a plain completion goes on with once its function is finished (Chen et al., section 3)
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

    Programs that a model wrote are run only with `execute`, in a process of their own with limits
    on time and memory. That keeps accidents small, but it is no wall against a hostile program: run
    it where there is nothing to lose.

    Args:
      data_dir: directory with HumanEval.jsonl.gz or HumanEval.jsonl, or the file.
      instruction: what is said before the function in a chat.
      execute: run what was generated against the tests of the exercise.
      limits: of each run.
    """

    name: ClassVar[str] = "humaneval"

    instruction: str = INSTRUCTION
    execute: bool = False
    limits: Limits = dataclasses.field(default_factory=Limits)

    @functools.cached_property
    def _exercises(self) -> dict[str, Exercise]:
        return read_exercises(self.data_dir)

    @property
    def can_verify(self) -> bool:
        """Whether `verify` may be called."""
        return self.execute

    def problems(self, split: str) -> list[Problem]:
        if split != "test":
            raise ValueError(f"humaneval has a test split only, no {split}")
        return [
            Problem(exercise.prompt, exercise.canonical_solution, exercise.task_id)
            for exercise in self._exercises.values()
        ]

    def ask(self, problem: Problem) -> str:
        if not self.chat:
            return problem.question
        return f"{self.instruction}\n\n```python\n{problem.question}```"

    def read(self, text: str) -> str | None:
        """The code of a response: in a chat its first fenced block, else up to the next definition."""
        if not self.chat:
            return _NEXT.split(text, maxsplit=1)[0]
        fenced = _FENCED.search(self.opening + text)
        return fenced[1] if fenced else self.opening + text

    def is_right(self, answer: str, reference: str) -> bool:
        """Whether the code passes the tests of the exercise.

        Raises:
          ValueError: `execute` was not asked for.
        """
        if not self.execute:
            raise ValueError("generated programs are run only when asked: pass --task.execute")
        return passes(program(answer, self._exercises[reference]), self.limits)


def program(code: str, exercise: Exercise) -> str:
    """A program that fails unless `code` passes the exercise's tests.

    Code that does not define the function is taken as the continuation of the prompt.
    """
    defines = re.search(rf"^def {re.escape(exercise.entry_point)}\b", code, re.MULTILINE)
    preamble = exercise.prompt[: exercise.prompt.index(f"def {exercise.entry_point}")]
    whole = preamble + code if defines else exercise.prompt + code
    return f"{whole}\n\n{exercise.test}\n\ncheck({exercise.entry_point})\n"


def read_exercises(data_dir: str | None) -> dict[str, Exercise]:
    """The exercises by their task_id; what is missing or malformed is named by file and line."""
    if data_dir is None:
        raise ValueError(f"humaneval needs {_FILES[0]}: pass its directory as --data_dir")
    where = Path(data_dir).expanduser()
    paths = [where] if where.is_file() else [where / name for name in _FILES]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise ValueError(f"{where} has no {' or '.join(_FILES)}")
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        lines = content.decode("utf-8").splitlines()
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not lines:
        raise ValueError(f"{path} is empty")
    exercises = [_exercise(line, f"{path}, line {n}") for n, line in enumerate(lines, 1)]
    return {exercise.task_id: exercise for exercise in exercises}


def _exercise(line: str, where: str) -> Exercise:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where} is not JSON: {error}") from error
    if not isinstance(record, dict) or not all(isinstance(record.get(k), str) for k in _KEYS):
        raise ValueError(f"{where}: expected a JSON object with texts {', '.join(_KEYS)}")
    exercise = Exercise(*(record[key] for key in _KEYS))
    if f"def {exercise.entry_point}" not in exercise.prompt:
        raise ValueError(f"{where}: the prompt does not define {exercise.entry_point}")
    return exercise
