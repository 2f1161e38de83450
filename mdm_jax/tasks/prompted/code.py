"""Finding the program in a response, and making a test of it."""

import re
from typing import NamedTuple

_FENCE = re.compile(r"^ {0,3}(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]*?)[ \t]*$")
_PYTHON = re.compile(r"^\{?\.?(?:python|py)[0-9.]*\b|^$", re.IGNORECASE)
_DEFINITION = re.compile(r"^[ \t]*(?:async )?(?:def|class) ", re.MULTILINE)
_FUTURE = re.compile(r"^from __future__ import (?:\([^)]*\)|[^\n(]*)", re.MULTILINE)


class CodeBlock(NamedTuple):
    """A fenced block of Markdown; `info` is what stands after the opening fence."""

    info: str
    code: str


def extract_code(text: str) -> str:
    """The program of a response.

    The first fenced block of Python that defines something; else the first block of Python; else the
    first block of anything. Without any block it is the whole text; where there is only a closing
    fence, what stands before it.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    blocks, unclosed = _blocks(lines)
    if unclosed is not None and not blocks:
        before = "\n".join(lines[:unclosed])
        only_closed = _DEFINITION.search(before) or not "".join(lines[unclosed + 1 :]).strip()
        if only_closed and before.strip():
            return before + "\n"
    if unclosed is not None:
        blocks.append(_block(lines, unclosed, len(lines)))
    python = [block for block in blocks if _PYTHON.match(block.info)]
    defining = [block for block in python if _DEFINITION.search(block.code)]
    chosen = (defining or python or blocks)[:1]
    return chosen[0].code if chosen else "\n".join(lines)


def _blocks(lines: list[str]) -> tuple[list[CodeBlock], int | None]:
    """The closed blocks, and the line of an opening fence that is never closed.

    As in CommonMark: a fence is closed by one of the same sign that is at least as long, is not
    indented as code, and has nothing after it.
    """
    blocks, start, fence = [], None, ""
    for number, line in enumerate(lines):
        match = _FENCE.match(line)
        if match is None:
            continue
        if start is None:
            start, fence = number, match["fence"]
        elif match["fence"].startswith(fence) and not match["info"]:
            blocks.append(_block(lines, start, number))
            start = None
    return blocks, start


def _block(lines: list[str], start: int, end: int) -> CodeBlock:
    """The block between an opening fence and the line of its end."""
    return CodeBlock(_FENCE.match(lines[start])["info"], "\n".join(lines[start + 1 : end]) + "\n")


def hoist_future_imports(source: str) -> str:
    """The source with its `from __future__` imports on top, where alone Python admits them."""
    imports = list(dict.fromkeys(_FUTURE.findall(source)))
    if not imports:
        return source
    return "\n".join([*imports, _FUTURE.sub("pass", source)])
