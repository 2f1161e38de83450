"""What counts as the answer of a solution."""

from fractions import Fraction

import pytest

from mdm_jax.tasks.gsm8k.scorer import extract_answer, extract_tagged, is_correct


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She sold 48/2 = 24.\n#### 72", 72),
        ("#### -5", -5),
        ("#### \N{MINUS SIGN}5", -5),
        ("#### +5", 5),
        ("#### 1,000", 1000),
        ("#### 1,234,567.5", Fraction("1234567.5")),
        ("#### **18**", 18),
        ("#### $18.", 18),
        ("#### -$18", -18),
        ("#### $-18", -18),
        ("#### \\$18", 18),
        ("#### `18`", 18),
        ("#### (18)", 18),
        ("####18", 18),
        ("##### 18", 18),
        ("####\t18\t", 18),
        ("#### 18.0", 18),
        ("#### 018", 18),
        ("#### 3.50", Fraction(7, 2)),
        ("#### .5", Fraction(1, 2)),
        ("#### 1e3", 1000),
        ("#### 2.5E-1", Fraction(1, 4)),
        ("#### 18%", 18),
        ("#### 18 %", 18),
        ("#### 1/2", Fraction(1, 2)),
        ("#### -3/6", Fraction(-1, 2)),
        (r"#### \frac{3}{4}", Fraction(3, 4)),
        (r"#### $\dfrac{3}{4}$", Fraction(3, 4)),
        (r"#### \boxed{18}", 18),
        ("#### 18 apples", 18),
        ("#### 18 apples.\nThat was 3 steps.", 18),
        ("#### 12\n#### 18", 18),  # the last #### wins
        ("#### 12 #### 18", 18),
        (r"\boxed{12} #### 18", 18),  # #### before \boxed
        (r"#### 18 and \boxed{x}", 18),
        (r"\boxed{18}", 18),
        (r"so it is \boxed{18}. I used 3 steps", 18),
        (r"\boxed{\$1{,}000}", 1000),
        (r"\boxed{1\,000}", 1000),
        (r"\boxed{18\text{ apples}}", 18),
        (r"\boxed{12}, no: \boxed{18}", 18),
        (r"\boxed{18\%}", 18),
        (r"\boxed{x=18}", 18),
        ("#### 18 ft^2", 18),
        (r"#### 18\text{ ft}^2", 18),
    ],
)
def test_the_number_is_found(text, number):
    assert extract_answer(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "####",
        "#### ",
        "####\n18",
        "#### \n",
        "18",
        "The answer is 18.",
        "### 18",
        "#### eighteen",
        "#### The answer is 18",
        "#### 18 or 19",
        "#### 18, 19",
        "#### 10-18",
        "#### 9 + 9 = 18",
        "#### x = 18",
        "#### 1,00",
        "#### 1,0000",
        "#### 1000,000",
        "#### 1 000",
        "#### 1.2.3",
        "#### 1 1/2",
        "#### 1/2/3",
        "#### 1/0",
        "#### 1e999999999",
        "#### " + "9" * 5000,
        "#### 18 million",
        "#### two hundred",
        "#### - 5",
        "#### --5",
        "#### .",
        "#### $",
        "#### \N{FULLWIDTH DIGIT ONE}",
        "#### 18\n####",
        r"#### none \boxed{18}",  # a marker without a number is an answer without a number
        r"\boxed{}",
        r"\boxed{x=9=18}",
        "#### 2^3",
        r"#### 3\frac{1}{2}",
        r"\boxed{18",
        r"\boxed 18",
        r"\boxed{18} \boxed{}",
    ],
)
def test_no_number_is_guessed(text):
    assert extract_answer(text) is None
    assert not is_correct(text, "18")


@pytest.mark.parametrize(
    ("box", "number"),
    [
        (r"18 \text{ ft}^2", 18),
        (r"18\text{ m}^{2}", 18),
        (r"18 \text{ m}/\text{s}^2", 18),
        (r"18\ \mathrm{km}", 18),
        (r"\text{18}", 18),
        (r"\textbf{18}", 18),
        (r"\mathrm{18}", 18),
        (r"\text{18 apples}", 18),
        (r"x = 18", 18),
        (r"\text{Total} = 18", 18),
        (r"\text{Answer: } 18", 18),
        (r"\tfrac{36}{2}", 18),
        (r"\frac{36}2", 18),
        (r"3\frac{1}{2}", Fraction(7, 2)),
        (r"-3\tfrac12\text{ hours}", Fraction(-7, 2)),
        (r"-\frac{1}{2}", Fraction(-1, 2)),
        (r"\$ 18.50", Fraction(37, 2)),
        (r"1{,}018", 1018),
        ("018", 18),
        ("-0", 0),
        (r"18^\circ", 18),
        (r"18\%", 18),
        (r"(18)", 18),
        (r"18 \text{ or } 19", None),
        (r"\text{from 18 to 20}", None),
        (r"18 \text{ million}", None),
        (r"18 \times 10^3", None),
        (r"2^3", None),
        (r"2^n", None),
        (r"x^2 = 18", None),
        (r"x = 9 \cdot 2 = 18", None),
        (r"18 \approx 18.2", None),
        (r"\text{eighteen}", None),
        (r"18:30", None),
    ],
)
def test_numbers_in_boxes(box, number):
    assert extract_answer(rf"so \boxed{{{box}}}.") == number
    assert extract_tagged(rf"<answer>\boxed{{{box}}}</answer>") == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("<answer>18 ft^2</answer>", 18),
        ("<answer>2^3 = 8, so 18</answer>", 18),
        ("<answer>10^3</answer>", None),
        (r"<answer>18\text{ m}^{2}</answer>", 18),
        (r"\boxed{none} and \boxed{18}", 18),
    ],
)
def test_numbers_in_tags(text, number):
    assert extract_tagged(text) == number


def test_first_and_last_marker():
    text = "9+9=18\n#### 18\n\nQuestion: 2+3?\nAnswer: 5\n#### 5"
    assert (extract_answer(text, which="first"), extract_answer(text)) == (18, 5)


def test_comparison_is_exact():
    assert is_correct("#### 18.0", "18") and is_correct("#### 3.50", "3.5")
    assert is_correct("#### 1080", "1,080") and is_correct("#### 1,080", "1080")
    assert is_correct("#### 1/4", "0.25") and not is_correct("#### 1/3", "0.3333333333333333")
    assert not is_correct("#### 10000000000000001", "10000000000000000")
    assert not is_correct("#### 0.30000000000000004", "0.3")
    assert not is_correct("#### -18", "18") and not is_correct("#### 180", "18")


@pytest.mark.parametrize("reference", ["", "eighteen", "1,00", "18 or 19"])
def test_a_reference_that_is_no_number_is_an_error(reference):
    with pytest.raises(ValueError, match="is not a number such as 18 or 1,080"):
        is_correct("#### 18", reference)
