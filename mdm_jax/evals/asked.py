"""What was asked, and what the answer is compared with, as digests that are stored with a generation."""

import hashlib
from typing import Any

import jax
import numpy as np

from mdm_jax.errors import MdmError
from mdm_jax.evals.store import SampleStore
from mdm_jax.tasks.base import Examples

_BYTES = 6  # of each half


def asked(examples: Examples) -> list[str]:
    """PROMPT-REFERENCE of each example, a digest of its canvas and one of its reference."""
    leaves = jax.tree.leaves(examples.references)
    return [
        f"{_digest([canvas])}-{_digest([leaf[i] for leaf in leaves])}"
        for i, canvas in enumerate(examples.canvases)
    ]


def check_asked(store: SampleStore, expected: list[str]) -> None:
    """Raise MdmError unless all that is stored answers these prompts and has these references.

    Args:
      expected: by index; what is stored of prompts beyond is not looked at.
    """
    for setting in store.settings():
        for index, found in store.asked(setting).items():
            if index < len(expected) and found != expected[index]:
                raise MdmError(
                    f"{store.path} answers other questions: since index {index} was generated, "
                    f"{_changed(found, expected[index])} changed; choose another directory, or delete "
                    f"{store.path.parent}"
                )


def _changed(found: str | None, expected: str) -> str:
    if found is None or found.partition("-")[0] != expected.partition("-")[0]:
        return "its prompt (question, few-shot examples, chat template or tokenizer) has"
    return "its reference has"


def _digest(arrays: list[Any]) -> str:
    digest = hashlib.blake2b(digest_size=_BYTES)
    for array in map(np.asarray, arrays):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
