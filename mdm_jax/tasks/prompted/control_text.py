"""Marking text that reads like a control token (`<|mask|>` in a question), so that it stays text.

The marks are noncharacters of Unicode, which are for use inside a program alone.
"""

import re
from collections.abc import Collection

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_MARKED = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}")


def quote(text: str, names: Collection[str]) -> str:
    """The text with marks around every occurrence of one of the names; its own marks are replaced."""
    text = re.sub(f"[{_OPEN}{_CLOSE}]", "\N{REPLACEMENT CHARACTER}", text)
    longest_first = sorted(names, key=len, reverse=True)
    pattern = "|".join(map(re.escape, longest_first))
    return re.sub(pattern, rf"{_OPEN}\g<0>{_CLOSE}", text) if names else text


def split_quoted(text: str) -> list[str]:
    """The text cut at its marks: unquoted, quoted, unquoted, ..., unquoted."""
    return _MARKED.split(text)
