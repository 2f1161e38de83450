"""What a run will ask a task for, tried before the run begins.

Tasks are not annotated: to compare one with the protocol reads its files.
"""

from typing import Any


def check_clean(task: Any) -> None:
    """Raise MdmError where a task has no clean sequences to train on and to hold out."""
    task.train_batch(0, 0, 1)
    task.heldout()


def check_prompts(task: Any, split: str, count: int) -> None:
    """Raise MdmError where a task cannot give that many prompts; one stands for all that it draws."""
    task.examples(split, count if hasattr(task, "tokenizer") else 1)
