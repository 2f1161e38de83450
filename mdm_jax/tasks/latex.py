r"""What scorers have in common: boxes, units, and the ways in which LaTeX writes a number."""

import re
from fractions import Fraction

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_STYLES = "text|mbox|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|operatorname"
_TEXT = re.compile(rf"\\(?:{_STYLES})\s*\{{([^{{}}]*)\}}")
_EXPONENT = r"(?:\s*\^\s*(?:\{\s*-?[0-9]\s*\}|-?[0-9]))?"
_TEXT_UNIT = re.compile(rf"{_TEXT.pattern}{_EXPONENT}\s*\.?\s*$")
_UNITS = (
    "mm|cm|km|kg|ft|inch(?:es)?|feet|foot|yards?|met(?:er|re)s?|miles?|mph|seconds?|minutes?|hours?"
    "|days?|weeks?|months?|years?|dollars?|cents?|degrees?|percent|pounds?|grams?|units?|points?|ways?"
)
_WORD_UNIT = re.compile(
    rf"(?<=[0-9}}])\s*((?:square |cubic |sq\.? )?\b(?:{_UNITS})){_EXPONENT}\s*\.?\s*$"
)
_BEFORE_UNIT = re.compile(r"(?:[\s/~]|\\cdot|\\times|\\[,;:! ])+$")
_SCALE = re.compile(r"\b(hundred|thousand|[mb]illion|trillion|dozen)s?\b", re.IGNORECASE)
_FRACTION = re.compile(
    r"\\[dtc]?frac\s*(?:\{\s*([0-9]+)\s*\}|\s*([0-9]))\s*(?:\{\s*([0-9]+)\s*\}|\s*([0-9]))"
)
_AFTER_DIGIT = re.compile(r"(?<=[0-9])\s*(?=\\[dtc]?frac)")
_THOUSANDS = re.compile(r"(?<=[0-9])(?:\{,\}|\\[,!])(?=[0-9]{3}(?![0-9]))")
_WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)"
_NUMBER = re.compile(
    rf"(?P<sign>[+-]?)(?:(?:(?P<whole>[0-9]+)\s+)?(?P<top>[0-9]+)\s*/\s*(?P<bottom>[0-9]+)"
    rf"|(?P<decimal>{_WHOLE}(?:\.[0-9]*)?|\.[0-9]+))"
)
_LONGEST = 60  # characters of a number; Python refuses to read integers of thousands of digits


def all_boxed(text: str) -> list[str]:
    r"""The contents of every outermost `\boxed{...}` or `\fbox{...}`; one that never closes has none.

    `\boxed 5` without braces is read up to the next blank.
    """
    found, position = [], 0
    while match := _BOX.search(text, position):
        position = match.end()
        if text[position : position + 1] == "{":
            content = in_braces(text[position + 1 :])
            if content is None:
                continue
            position += len(content) + 2
        else:
            content = re.match(r"[^\s$]*", text[position:])[0]
        found.append(content)
    return found


def in_braces(text: str) -> str | None:
    """Up to the brace that closes what was opened before `text`; None if none does."""
    depth = 1
    for position, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return text[:position]
    return None


def has_scale_word(text: str) -> bool:
    """Whether a word multiplies a number (`18 million`), so that the number alone is not the value."""
    return _SCALE.search(text) is not None


def drop_units(text: str) -> str:
    r"""The text without the unit at its end: `18 \text{ ft}^2`, `18 \text{m}/\text{s}`, `18 ft^2`.

    A unit is a word in `\text{}`, or a common one without, and follows something with a digit or a
    command: `\text{Monday}` stays. It has no digit but in its exponent, and is no scale word.
    """
    while (match := _TEXT_UNIT.search(text) or _WORD_UNIT.search(text)) is not None:
        rest = _BEFORE_UNIT.sub("", text[: match.start()])
        is_unit = not re.search("[0-9]", match[1]) and not has_scale_word(match[1])
        if not is_unit or not re.search(r"[0-9\\]", _TEXT.sub("", rest)):
            return text
        text = rest
    return text


def unwrap_text(text: str) -> str:
    r"""`\text{a}`, `\mathrm{a}`, ... as `a`."""
    return _TEXT.sub(r"\1", text)


def plain_numbers(text: str) -> str:
    r"""LaTeX for numbers as plain text: `\tfrac{3}{4}` as `3/4`, `3\frac{1}{2}` as `3 1/2`, `1{,}000`
    as `1,000`.
    """
    text = _AFTER_DIGIT.sub(" ", text)
    text = _FRACTION.sub(lambda m: f"{m[1] or m[2]}/{m[3] or m[4]}", text)
    text = _THOUSANDS.sub(",", text)
    return text.replace(r"\$", "$").replace(r"\%", "%").replace("\N{MINUS SIGN}", "-")


def exact_number(text: str) -> Fraction | None:
    """The value of a text that is nothing but a number; None: it is something else.

    Whole numbers (with or without separators between groups of three), decimals, fractions and mixed
    numbers (`3 1/2`).
    """
    match = _NUMBER.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if match is None:
        return None
    if match["decimal"]:
        value = Fraction(match["decimal"].replace(",", "").rstrip("."))
    elif int(match["bottom"]) == 0:
        return None
    else:
        value = int(match["whole"] or 0) + Fraction(int(match["top"]), int(match["bottom"]))
    return -value if match["sign"] == "-" else value
