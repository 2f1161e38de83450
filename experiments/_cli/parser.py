"""Old name of `experiments._cli`, until every branch uses the new one."""

from experiments._cli import (
    REQUIRED,
    AnyHeuristic,
    AnyPolicy,
    AnyTask,
    Fixed,
    Flat,
    OptionalTask,
    RunDir,
    main,
    parse,
    with_data_dir,
)

__all__ = [
    "REQUIRED",
    "AnyHeuristic",
    "AnyPolicy",
    "AnyTask",
    "Fixed",
    "Flat",
    "OptionalTask",
    "RunDir",
    "main",
    "parse",
    "with_data_dir",
]
