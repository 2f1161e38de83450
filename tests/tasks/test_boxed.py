r"""Boxed answers: which one is read, and what counts as the same."""

import pytest

from mdm_jax.tasks.prompted.boxed import all_boxed, in_braces, is_same, normalised


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
    ("one", "other"),
    [
        (r"\frac12", r"\dfrac{1}{2}"),
        (r"\frac1{2}", "1/2"),
        (r"\frac{1}2", "0.5"),
        (".25", "0.25"),
        (r"-\tfrac{3}{4}", "-3/4"),
        (r"\frac{-3}{4}", "-3/4"),
        (r"\sqrt2", r"\sqrt{2}"),
        ("x=4", "4"),
        (r"1{,}000", "1000"),
        (r"1,234,567", r"1\,234\,567"),
        (r"90^\circ", "90"),
        (r"50\%", "50"),
        (r"\$3.20", "3.20"),
        (r"5\text{ cm}", "5"),
        (r"5 \mbox{ inches}^2", "5"),
        (r"\text{Monday}", "Monday"),
        (r"\left( 1, 2 \right)", "(1,2)"),
        ("12.", "12"),
    ],
)
def test_ways_of_writing_that_do_not_count(one, other):
    assert normalised(one) == normalised(other) and is_same(one, other)
    assert normalised(normalised(one)) == normalised(one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "2"),
        ("", ""),
        ("-5", "5"),
        ("(1,2)", "[1,2]"),
        ("x^2", "x2"),
        ("12", "1.2"),
        (r"\frac{1}{2}", r"\frac{2}{1}"),
        ("Monday", "Tuesday"),
        ("x<5", "x>5"),
    ],
)
def test_answers_that_differ(one, other):
    assert not is_same(one, other)
