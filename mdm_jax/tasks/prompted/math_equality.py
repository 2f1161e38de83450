r"""When two answers to a MATH problem are the same (Hendrycks et al., arXiv:2103.03874).

Two answers are the same if one of these holds:

1. They are the same text but for what the benchmark does not count: blanks, sizes of brackets, units,
   degrees, percent and dollar signs, a name with `=` before one of them, the ways of writing a
   fraction or a root.
2. Both are plain numbers of the same value: `5.0` and `5`, `033` and `33`, `3\frac{1}{2}` and `3.5`.
3. math-verify (Hugging Face), which parses both with SymPy, finds them equal: `2\sqrt{2}` and
   `\sqrt{8}`, `\{1, 2\}` and `\{2, 1\}`.

The library is used only where it is at least as strict as the benchmark. It would accept rounded
decimals (here they are exact: 0.3333 is not 1/3), `(1,2)` for `1,2` or `\{1,2\}`, one of several
values, the right side of any equation, ratios for quotients, `10_8` for `10_9`, and words with the
same letters. Where an answer has subscripts, colons or words, texts alone are compared.
"""

import functools
import re
import threading
from fractions import Fraction

from mdm_jax.tasks.latex import drop_units, exact_number, plain_numbers, unwrap_text

_DROPPED = re.compile(
    r"(?<!\\)\\[!,;: ]|\\(?:left|right|displaystyle|degree)(?![A-Za-z])|\^(?:\\circ|\{\\circ\})|\\?[$%]|~"
)
_BARE_SCRIPT = re.compile(r"([_^])\{([0-9A-Za-z])\}")
_NAME = re.compile(r"^\s*([A-Za-z]{1,2}(?:\([A-Za-z]\))?)\s*(?:=|\\in(?![A-Za-z]))(?=.)")
_BARE_FRACTION = re.compile(r"\\frac([0-9A-Za-z])([0-9A-Za-z])")
_HALF_FRACTION = re.compile(r"\\frac([0-9A-Za-z])\{")
_LATE_FRACTION = re.compile(r"\\frac(\{[^{}]*\})([0-9A-Za-z])")
_SLASH = re.compile(r"^(-?)([0-9]+)/([0-9]+)$")
_BARE_ROOT = re.compile(r"\\sqrt([0-9A-Za-z])")
_DECIMAL = re.compile(r"(?<![0-9.])([0-9]*)\.([0-9]+)(?![0-9.])")
_TEXT_ONLY = re.compile(r"[_:]|(?<![\\A-Za-z])[A-Za-z]{2,}")
_COSTLY = re.compile(  # 9^{9^9}, 2^{9999}, (10^{99})^{999}, 999!
    r"\^\{[^{}]*\^|\^[0-9A-Za-z]\^|\^\{?-?[0-9]{4}|\)\^\{?-?[0-9]{3}|[0-9]{3}!|\)!|!!|[0-9]{40}"
)
_LONGEST = 200  # characters that the library is given
_SECONDS = 5  # that it may take, where there are signals to stop it


@functools.lru_cache(maxsize=2**14)
def is_same(answer: str, reference: str) -> bool:
    """Whether two answers are the same by the rules above; an empty one is none."""
    one, other = _without_name(answer, reference), _without_name(reference, answer)
    texts = normalised(one), normalised(other)
    if "" in texts:
        return False
    numbers = _number(one), _number(other)
    if None not in numbers:
        return numbers[0] == numbers[1]
    return texts[0] == texts[1] or _library_agrees(*texts)


def _without_name(answer: str, other: str) -> str:
    """`x = 4` as `4`, where the other answer has no name of its own."""
    return answer if _NAME.match(other) else _NAME.sub("", answer)


def normalised(answer: str) -> str:
    """One way of writing an answer, so that answers that are written alike become equal texts."""
    answer = _clean(answer)
    answer = re.sub(r"(?<![0-9])\s+|\s+(?![0-9])", "", answer)  # `3 1/2` is not `31/2`
    answer = answer.replace("tfrac", "frac").replace("dfrac", "frac").replace("{,}", ",")
    answer = re.sub(r"(?<![0-9])\.(?=[0-9])", "0.", answer)  # .5 is 0.5
    answer = _BARE_SCRIPT.sub(r"\1\2", answer)
    answer = _BARE_ROOT.sub(r"\\sqrt{\1}", answer)
    answer = _BARE_FRACTION.sub(r"\\frac{\1}{\2}", answer)
    answer = _HALF_FRACTION.sub(r"\\frac{\1}{", answer)
    answer = _LATE_FRACTION.sub(r"\\frac\1{\2}", answer)
    answer = answer.replace(r"\frac{-", r"-\frac{")
    return _SLASH.sub(r"\1\\frac{\2}{\3}", answer)


def _clean(answer: str) -> str:
    """Without units and signs that do not count."""
    answer = unwrap_text(drop_units(answer.replace("\n", " ").strip().rstrip(".")))
    return _DROPPED.sub("", answer).strip()


def _number(answer: str) -> Fraction | None:
    """The value of an answer that is a plain number; None: it is something else."""
    return exact_number(_clean(plain_numbers(unwrap_text(drop_units(answer)))))


def _library_agrees(one: str, other: str) -> bool:
    """Whether math-verify finds two normalised answers equal; False where it is not used."""
    if any(len(x) > _LONGEST or _TEXT_ONLY.search(x) or _COSTLY.search(x) for x in (one, other)):
        return False
    if _shape(one) != _shape(other):
        return False
    from math_verify import verify

    gold, given = (_parsed(_DECIMAL.sub(_exact_decimal, x)) for x in (other, one))
    return bool(gold and given) and verify(gold, given, timeout_seconds=_seconds())


def _parsed(answer: str) -> list:
    from math_verify import LatexExtractionConfig, parse

    config = [LatexExtractionConfig(boxed_match_priority=0)]
    return parse(rf"\boxed{{{answer}}}", extraction_config=config, parsing_timeout=_seconds())


def _seconds() -> int | None:
    """The library's limit, which uses a signal and so exists in the main thread alone."""
    return _SECONDS if threading.current_thread() is threading.main_thread() else None


def _exact_decimal(match: re.Match) -> str:
    r"""0.25 as \frac{25}{100}: the library rounds decimals."""
    return rf"\frac{{{int(match[1] + match[2])}}}{{{10 ** len(match[2])}}}"


def _shape(answer: str) -> tuple:
    """What must agree before values are compared: outer brackets of a list, its length, equals signs."""
    depth, commas = 0, 0
    for character in answer.replace(r"\{", "(").replace(r"\}", ")"):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(character, 0)
        commas += character == "," and depth <= 1
    ends = (answer.removeprefix("\\")[:1], answer[-1:]) if commas else ()
    brackets = tuple(end if end in "()[]{}" else "" for end in ends)
    return commas, brackets, answer.count("=")
