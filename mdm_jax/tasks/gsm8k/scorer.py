r"""Which number a GSM8K solution gives as its answer, and whether it is the right one.

Strict, so that nothing is scored right by accident:

1. The answer stands after the last `####`, on the same line. Without any `####`, it is the content
   of the last `\boxed{...}`. Otherwise there is no answer; the last number of a text never counts.
2. It must begin with a number; Markdown, brackets, `\boxed{`, a sign, a currency sign may precede.
3. Nothing else on that line may contain a digit: `18 apples` is 18, `18 or 19` is no answer. Scale
   words (`18 million`) are no answer either. A percent sign is a unit, as in the data: `18%` is 18.
4. Numbers are whole (`18`, `1,000` with groups of three), decimal (`3.50`), scientific (`1e3`) or a
   fraction (`1/2`, `\frac{1}{2}`). They are compared exactly, as fractions.
"""

import re
from fractions import Fraction

from mdm_jax.tasks.prompted.boxed import all_boxed, in_braces

_LATEX = (
    (r"\\d?frac\{([0-9]+)\}\{([0-9]+)\}", r"\1/\2"),
    (r"\{,\}|\\,(?=[0-9]{3})", ","),
    (r"\\([$%])", r"\1"),
    ("\N{MINUS SIGN}", "-"),
)
_NUMBER = re.compile(
    r"[\s*_`$£€({\[\\]*(?:boxed\{[\s*$£€]*)?"  # Markdown and LaTeX around it
    r"(?P<sign>[+-]?)[$£€]?"
    r"(?P<number>[0-9]{1,40}/[0-9]{1,40}"
    r"|(?:[0-9]{1,3}(?:,[0-9]{3}){1,13}|[0-9]{1,40})(?:\.[0-9]{0,40})?(?:[eE][+-]?[0-9]{1,2})?"
    r"|\.[0-9]{1,40})"
)
_SCALE = re.compile(r"\b(hundred|thousand|[mb]illion|trillion|dozen)s?\b", re.IGNORECASE)


def extract_answer(text: str) -> Fraction | None:
    """The number that `text` gives as its answer by the rules above, or None."""
    marker = text.rfind("####")
    if marker >= 0:
        return _number_of((text[marker + 4 :].splitlines() or [""])[0])
    boxed = text.rfind(r"\boxed{")
    return None if boxed < 0 else _number_of(in_braces(text[boxed + len(r"\boxed{") :]) or "")


def extract_tagged(text: str) -> Fraction | None:
    r"""The number that an answer in `<answer>` tags gives, as evaluations of published models read it.

    The first `\boxed{}` with a number, wherever it stands; without any, the last number after the last
    `<answer>`, up to the tag that closes it; without such a tag as `extract_answer`.
    """
    boxed = [number for number in map(_number_of, all_boxed(text)) if number is not None]
    if boxed:
        return boxed[0]
    _, tag, rest = text.rpartition("<answer>")
    if not tag:
        return extract_answer(text)
    numbers = [_value(match) for match in _NUMBER.finditer(_plain(rest.partition("</answer>")[0]))]
    return numbers[-1] if numbers else None


def is_correct(text: str, reference: str) -> bool:
    """Whether the answer of `text` equals the gold number, written as in `1,080`."""
    gold = _number_of(reference)
    if gold is None:
        raise ValueError(f"the reference {reference!r} is not a number such as 18 or 1,080")
    return extract_answer(text) == gold


def _number_of(line: str) -> Fraction | None:
    line = _plain(line)
    match = _NUMBER.match(line)
    if match is None:
        return None
    rest = line[match.end() :]
    return None if re.search("[0-9]", rest) or _SCALE.search(rest) else _value(match)


def _plain(line: str) -> str:
    """LaTeX for numbers as plain text."""
    for pattern, replacement in _LATEX:
        line = re.sub(pattern, replacement, line)
    return line


def _value(match: re.Match) -> Fraction | None:
    try:
        value = Fraction(match["number"].replace(",", "").rstrip("."))
    except ZeroDivisionError:
        return None
    return -value if match["sign"] == "-" else value
