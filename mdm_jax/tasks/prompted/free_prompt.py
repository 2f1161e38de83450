"""One prompt given on the command line."""

import dataclasses
from typing import ClassVar

from mdm_jax.errors import MdmError
from mdm_jax.tasks.prompted.base import Problem, Prompted


@dataclasses.dataclass(frozen=True, kw_only=True)
class FreePrompt(Prompted):
    """Answer one prompt; responses are shown, not scored.

    Args:
      question: the prompt.
    """

    name: ClassVar[str] = "prompt"

    question: str = ""

    def problems(self, split: str) -> list[Problem]:
        if not self.question:
            raise MdmError("there is no prompt: pass --prompt TEXT")
        if split != "test":
            raise MdmError(f"a prompt has no {split} split")
        return [Problem(self.question, "", "")]

    def ask(self, problem: Problem) -> str:
        return problem.question

    def read(self, text: str) -> str | None:
        return text

    def is_right(self, answer: str, reference: str) -> bool:
        return False
