r"""Which number a GSM8K solution gives as its answer, and whether it is the right one.

Strict, so that nothing is scored right by accident:

1. The answer stands after the last `####`, on the same line (`which="first"`: after the first, which is
   lm-evaluation-harness' strict rule for few-shot prompts). Without any `####`, it is the content of
   the last `\boxed{...}`. Otherwise there is no answer; the last number of a text never counts.
2. It must begin with a number; Markdown, brackets, `\boxed{`, a sign, a currency sign may precede.
3. Nothing else on that line may contain a digit: `18 apples` is 18, `18 or 19` is no answer. A unit may
   have an exponent (`18 ft^2`). Scale words (`18 million`) are no answer either. A percent sign is a
   unit, as in the data: `18%` is 18.
4. Numbers are whole (`18`, `1,000` with groups of three), decimal (`3.50`), scientific (`1e3`) or a
   fraction (`1/2`, `\frac{1}{2}`). They are compared exactly, as fractions.
5. Inside a box the number may also be in `\text{}`, follow a name (`x = 18`, `\text{Total: } 18`), or
   be mixed (`3\frac{1}{2}`).
"""

import re
from fractions import Fraction
from typing import Literal

from mdm_jax.errors import MdmError
from mdm_jax.tasks.latex import (
    all_boxed,
    drop_units,
    exact_number,
    has_scale_word,
    in_braces,
    plain_numbers,
    unwrap_text,
)

_NUMBER = re.compile(
    r"[\s*_`$£€({\[\\]*(?:boxed\{[\s*$£€]*)?"  # Markdown and LaTeX around it
    r"(?P<sign>[+-]?)(?:[$£€]\s*)?"
    r"(?P<number>[0-9]{1,40}/[0-9]{1,40}"
    r"|(?:[0-9]{1,3}(?:,[0-9]{3}){1,13}|[0-9]{1,40})(?:\.[0-9]{0,40})?(?:[eE][+-]?[0-9]{1,2})?"
    r"|\.[0-9]{1,40})"
)
_UNIT_EXPONENT = re.compile(r"(?<=[A-Za-z}])\s*\^\s*(?:\{-?[0-9]\}|-?[0-9])")
_NAMED = re.compile(r"^[A-Za-z][A-Za-z ]*[=:](?=[^=:]*$)")  # `x =`, `Total:`; one sign alone
_MARKER = "####"


def extract_answer(text: str, which: Literal["first", "last"] = "last") -> Fraction | None:
    """The number that `text` gives as its answer by the rules above, or None."""
    marker = text.rfind(_MARKER) if which == "last" else text.find(_MARKER)
    if marker >= 0:
        return _number_of((text[marker + len(_MARKER) :].splitlines() or [""])[0])
    boxed = text.rfind(r"\boxed{")
    return None if boxed < 0 else _number_in_box(in_braces(text[boxed + len(r"\boxed{") :]) or "")


def extract_tagged(text: str) -> Fraction | None:
    r"""The number that an answer in `<answer>` tags gives, as evaluations of published models read it.

    The first `\boxed{}` with a number, wherever it stands; without any, the last number after the last
    `<answer>`, up to the tag that closes it, unless a box is there; without such a tag as
    `extract_answer`.
    """
    boxed = [number for number in map(_number_in_box, all_boxed(text)) if number is not None]
    if boxed:
        return boxed[0]
    _, tag, rest = text.rpartition("<answer>")
    if not tag:
        return extract_answer(text)
    content = rest.partition("</answer>")[0]
    numbers = [] if all_boxed(content) else list(_NUMBER.finditer(_plain(content)))
    if not numbers or _is_in_power(numbers[-1]):
        return None
    return _value(numbers[-1])


def is_correct(text: str, reference: str) -> bool:
    """Whether the answer of `text` equals the gold number, written as in `1,080`."""
    gold = _number_of(reference)
    if gold is None:
        raise MdmError(f"the reference {reference!r} is not a number such as 18 or 1,080")
    return extract_answer(text) == gold


def _is_in_power(match: re.Match) -> bool:
    """Whether a number is the base or the exponent of a power."""
    before, after = match.string[: match.start("number")], match.string[match.end() :]
    return before.rstrip(" {").endswith("^") or after.lstrip(" }").startswith("^")


def _number_in_box(content: str) -> Fraction | None:
    if has_scale_word(content):
        return None
    content = plain_numbers(unwrap_text(drop_units(content))).strip()
    content = _NAMED.sub("", content)
    mixed = exact_number(content)
    return _number_of(content) if mixed is None else mixed


def _number_of(line: str) -> Fraction | None:
    line = _plain(line)
    match = _NUMBER.match(line)
    if match is None:
        return None
    rest = re.sub(r"\^(?:\\circ|\{\\circ\})", "", line[match.end() :])
    return None if re.search("[0-9^]", rest) or has_scale_word(rest) else _value(match)


def _plain(line: str) -> str:
    """LaTeX for numbers as plain text, and units without exponents."""
    line = plain_numbers(line)
    first = re.search("[0-9]", line)
    start = first.start() if first else 0
    return line[:start] + _UNIT_EXPONENT.sub("", line[start:])


def _value(match: re.Match) -> Fraction | None:
    try:
        value = Fraction(match["number"].replace(",", "").rstrip("."))
    except ZeroDivisionError:
        return None
    return -value if match["sign"] == "-" else value
