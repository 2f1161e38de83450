"""Numbers of the papers that the tables of the experiments are about, as reported second-hand."""

from typing import NamedTuple


class PublishedTable(NamedTuple):
    """Rows of a paper's table.

    Attributes:
      source: the paper, and what of it.
      columns: their names.
      rows: a value for each column.
    """

    source: str
    columns: tuple[str, ...]
    rows: tuple[tuple, ...]


# GSM8K, 170M parameters (fragments of the paper's table)
VARIATIONAL_ORDERS = PublishedTable(
    source="arXiv:2602.23968, Table 1",
    columns=("budget", "policy", "accuracy %", "mean calls", "[min, max]"),
    rows=(
        (5, "learned", 33.1, 4.01, "[2, 5]"),
        (5, "Ancestral at the learned mean", 29.0, 4.0, "[4, 4]"),
        (5, "TopConfidence at the learned mean", 23.7, 4.0, "[4, 4]"),
        (5, "TopMargin at the learned mean", 24.0, 4.0, "[4, 4]"),
        (10, "learned", 37.8, 9.57, "[7, 10]"),
        (10, "TopMargin at the learned maximum", 39.5, 10.0, "[10, 10]"),
        (15, "learned", 39.0, 9.43, "[5, 12]"),
        (15, "TopMargin at the learned maximum", 42.3, 12.0, "[12, 12]"),
    ),
)

# 256 positions (appendix J of the paper)
UNMASKING_POLICIES = PublishedTable(
    source="arXiv:2512.09106, LLaDA-8B-Instruct",
    columns=("setting", "policy", "mean calls", "accuracy %"),
    rows=(
        ("GSM8K, blocks of 32", "learned, weight 10", "10.3", "35.2 +- 0.3"),
        ("GSM8K, blocks of 32", "ConfidenceThreshold", "10.6", "17.5"),
        ("MATH-500, blocks of 32", "learned, weight 10", "about 10", "15.3 +- 0.2"),
        ("MATH-500, blocks of 32", "ConfidenceThreshold", "about 10", "7.4"),
        ("GSM8K, one block", "learned", "13.0", "48.3 +- 0.6"),
        ("GSM8K, one block", "learned", "50.5", "56.1 +- 0.9"),
        ("GSM8K, one block, expert steering", "learned", "70.5", "77.2 +- 0.4"),
        ("MATH-500, one block", "learned", "121.5", "22.9 +- 1.0"),
        ("MATH-500, one block, expert steering", "learned", "86.7", "31.4 +- 0.5"),
    ),
)

# what second-hand notes report of the study, by question (its tables are not public)
TRIMODAL = PublishedTable(
    source="arXiv:2602.21472, 3B parameters, 6.4T tokens, second-hand",
    columns=("question", "what", "reported"),
    rows=(
        ("schedules", "trained with", "linear; one note says that none is best for all modalities"),
        ("anti-masking", "FID of images", "18.69 without, 17.81 with, at no more compute"),
        (
            "batches",
            "loss",
            "flat below a critical batch, with learning rate, betas and eps by the SDE rule, whose token "
            "exponent is about 0.44 over 3,000 runs",
        ),
        ("batches", "compute-optimal tokens", "about 7754 N^0.84 for N parameters"),
        ("sampling", "best settings", "differ between modalities"),
    ),
)
