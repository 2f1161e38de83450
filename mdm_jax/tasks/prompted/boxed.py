r"""Answers in `\boxed{...}`, and when two of them are the same but for how they are written.

The rules are those of the MATH benchmark (Hendrycks et al., arXiv:2103.03874): blanks, sizes of
brackets, units, degrees and percent signs, and the ways of writing a fraction or a root do not count.
"""

import re

_DROPPED = (
    *(r"\!", r"\,", r"\;", r"\:", r"\ ", r"\left", r"\right", r"\$", "$", r"\%", "%"),
    *(r"^\circ", r"^{\circ}", r"\displaystyle"),
)
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_UNIT = re.compile(r"\\(?:text|mbox)\s*\{\s+[^{}]*\}(?:\^[0-9])?\s*$")  # `5 \text{ cm}`
_WORDS = re.compile(r"\\(?:text|mbox|textbf|mathrm)\s*\{([^{}]*)\}")
_ASSIGNED = re.compile(r"^[A-Za-z]{1,2}=(?=.)")
_BARE_FRACTION = re.compile(r"\\frac([0-9A-Za-z])([0-9A-Za-z])")
_HALF_FRACTION = re.compile(r"\\frac([0-9A-Za-z])\{")
_LATE_FRACTION = re.compile(r"\\frac(\{[^{}]*\})([0-9A-Za-z])")
_SLASH = re.compile(r"^(-?)([0-9]+)/([0-9]+)$")
_BARE_ROOT = re.compile(r"\\sqrt([0-9A-Za-z])")
_THOUSANDS = re.compile(r"(?<![0-9])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])")


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


def normalised(answer: str) -> str:
    """One way of writing an answer, so that equal answers become equal texts."""
    answer = _UNIT.sub("", answer.replace("\n", "").strip().rstrip("."))
    answer = _WORDS.sub(r"\1", answer)
    for dropped in _DROPPED:
        answer = answer.replace(dropped, "")
    answer = answer.replace("tfrac", "frac").replace("dfrac", "frac").replace(" ", "")
    answer = _ASSIGNED.sub("", answer)
    answer = re.sub(r"(?<![0-9])\.(?=[0-9])", "0.", answer)  # .5 is 0.5
    answer = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), answer.replace("{,}", ","))
    answer = _BARE_ROOT.sub(r"\\sqrt{\1}", answer)
    answer = _BARE_FRACTION.sub(r"\\frac{\1}{\2}", answer)
    answer = _HALF_FRACTION.sub(r"\\frac{\1}{", answer)
    answer = _LATE_FRACTION.sub(r"\\frac\1{\2}", answer)
    answer = r"\frac{1}{2}" if answer == "0.5" else answer
    answer = answer.replace(r"\frac{-", r"-\frac{")
    return _SLASH.sub(r"\1\\frac{\2}{\3}", answer)


def is_same(answer: str, reference: str) -> bool:
    """Whether two answers are the same text once normalised; an empty one is none."""
    return normalised(answer) == normalised(reference) != ""
