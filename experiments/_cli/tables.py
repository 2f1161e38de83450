"""Tables of results."""

from collections.abc import Sequence

from experiments._cli.console import NARROW, console, print_table
from mdm_jax.evals.paired import PairedRow
from mdm_jax.evals.score import Row
from mdm_jax.evals.sentences import points, settings_text

FIGURES = ("accuracy %", "95 % interval", "NFE [min, max]")


def print_rows(rows: Sequence[Row], title: str) -> None:
    """Accuracy against cost; tokens per call where the terminal is wide enough."""
    wide = console.width >= NARROW
    names = ("passes", "seq/s", "tokens/call")[: 2 + wide]
    _print_table(title, names, [(*_columns(row), *_costs(row)[: 2 + wide]) for row in rows])


def print_paired_rows(rows: Sequence[PairedRow], title: str) -> None:
    """Accuracy against cost, and by how much the learned policy is better on the same prompts."""
    cells = []
    for row, gain, low, high, better in rows:
        difference = "" if gain is None else f"{points(gain)} [{points(low)}, {points(high)}]"
        cells.append((*_columns(row), difference, "" if better is None else f"{better:.3f}"))
    _print_table(title, ("learned is better by", "P"), cells)


def frontier_cells(table: Sequence[tuple[Row, PairedRow | None]]) -> list[tuple[str, ...]]:
    """Settings of a policy with a price, each beside the best baseline in no more calls."""
    cells = []
    for row, other in table:
        ours = (
            f"{row.settings['price']:.3g}",
            f"{100 * row.accuracy:.1f}",
            f"{100 * row.low:.1f} - {100 * row.high:.1f}",
            f"{row.nfe:.2f}",
        )
        cells.append((*ours, *(_beside(other) if other else ("-", "", ""))))
    return cells


def _beside(other: PairedRow) -> tuple[str, str, str]:
    row = other.row
    knob, value = next(iter(row.settings.items()))
    name = f"{row.policy} {knob}={value:g}: {100 * row.accuracy:.1f} in {row.nfe:.2f}"
    gain = f"{points(other.gain)} [{points(other.low)}, {points(other.high)}]"
    return name, gain, f"{other.better:.3f}"


def _print_table(title: str, more: Sequence[str], cells: Sequence[tuple[str, ...]]) -> None:
    """A table whose rows begin with `_columns`; policy and settings share one where two do not fit."""
    named = ("policy", "settings")
    if console.width < NARROW:
        named, cells = ("policy and settings",), [("\n".join(row[:2]), *row[2:]) for row in cells]
    print_table(title, (*named, *FIGURES, *more), cells, texts=len(named))


def _columns(row: Row) -> tuple[str, ...]:
    return (
        row.policy,
        settings_text(row),
        f"{100 * row.accuracy:.1f}",
        f"{100 * row.low:.1f} - {100 * row.high:.1f}",
        f"{row.nfe:.2f} [{row.nfe_min}, {row.nfe_max}]",
    )


def _costs(row: Row) -> tuple[str, str, str]:
    """Passes, sequences per second, tokens per denoiser call."""
    tokens = "-" if row.tokens_per_call is None else f"{row.tokens_per_call:.2f}"
    return f"{row.passes:.1f}", _rate(row.sequences_per_second), tokens


def _rate(per_second: float | None) -> str:
    if per_second is None:
        return "-"
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.3g}"
