"""What the entry points share of the command line: `from experiments import _cli as cli`."""

from experiments._cli.command_line import parse
from experiments._cli.console import REPORTER
from experiments._cli.fields import (
    REQUIRED,
    AnyHeuristic,
    AnyPolicy,
    AnyTask,
    Fixed,
    Flat,
    OptionalBranches,
    OptionalPolicy,
    OptionalTask,
    RunDir,
    select,
)
from experiments._cli.main import main

__all__ = [
    "REPORTER",
    "REQUIRED",
    "AnyHeuristic",
    "AnyPolicy",
    "AnyTask",
    "Fixed",
    "Flat",
    "OptionalBranches",
    "OptionalPolicy",
    "OptionalTask",
    "RunDir",
    "main",
    "parse",
    "select",
]
