r"""Boxes, units, and numbers in LaTeX."""

from fractions import Fraction

import pytest

from mdm_jax.tasks.latex import all_boxed, drop_units, exact_number, in_braces, plain_numbers


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        (r"so \boxed{7}.", ["7"]),
        (r"\boxed{\frac{1}{\sqrt{2}}} then \fbox{x^{2}}", [r"\frac{1}{\sqrt{2}}", "x^{2}"]),
        (r"$\boxed 5$ and \boxed{ 6 }", ["5", " 6 "]),
        (r"\boxed{1 + {2}", []),
        (r"\boxed{1} and \boxed{{2}", ["1"]),
        (r"\boxedness{3}", []),
        ("", []),
    ],
)
def test_outermost_boxes_that_close(text, boxes):
    assert all_boxed(text) == boxes


def test_what_braces_hold():
    assert in_braces("a{b}{c}d}e") == "a{b}{c}d" and in_braces("a{b}") is None


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (r"18 \text{ ft}^2", "18"),
        (r"18\text{ m}^{2}", "18"),
        (r"18\,\mathrm{cm}^3", "18"),
        (r"18~\text{m}/\text{s}^2.", "18"),
        (r"18 \text{ kg} \cdot \text{m}", "18"),
        (r"\frac{1}{2}\mbox{ inches}", r"\frac{1}{2}"),
        (r"18 square feet", "18"),
        (r"18 ft^2", "18"),
        (r"\text{Monday}", r"\text{Monday}"),
        (r"\text{ June 20}", r"\text{ June 20}"),
        (r"18 \text{ million}", r"18 \text{ million}"),
        (r"18 \text{ or 19}", r"18 \text{ or 19}"),
        ("5 xy", "5 xy"),
        ("2m", "2m"),
    ],
)
def test_units_at_the_end(text, left):
    assert drop_units(text) == left


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", 18),
        ("018", 18),
        ("-0", 0),
        ("+5", 5),
        ("5.", 5),
        (".5", Fraction(1, 2)),
        ("1,234,567.50", Fraction("1234567.5")),
        (r"1{,}000", 1000),
        (r"1\,000", 1000),
        ("3/6", Fraction(1, 2)),
        (r"-\tfrac{3}{4}", Fraction(-3, 4)),
        (r"\dfrac 3 4", Fraction(3, 4)),
        (r"\frac34", Fraction(3, 4)),
        (r"3\frac{1}{2}", Fraction(7, 2)),
        (r"-3 \frac12", Fraction(-7, 2)),
        ("\N{MINUS SIGN}3", -3),
    ],
)
def test_numbers_are_exact(text, value):
    assert exact_number(plain_numbers(text)) == value


@pytest.mark.parametrize(
    "text",
    ["", "x", "1,00", "1,0000", "1 000", "1/0", "1/2/3", "1e3", "--5", "(5)", "5 6", "9" * 999],
)
def test_what_is_more_or_less_than_a_number(text):
    assert exact_number(plain_numbers(text)) is None
