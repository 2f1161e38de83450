"""Tables of results, and the sentences that sum them up."""

import statistics
from collections.abc import Sequence

from experiments._cli.console import NARROW, console, print_once, print_table
from mdm_jax.evals.paired import PairedRow, StoredComparison
from mdm_jax.evals.score import Row
from mdm_jax.evals.static_order_limit import NAME as LIMIT
from mdm_jax.profiling.report import Speed

FIGURES = ("accuracy %", "95 % interval", "NFE [min, max]")


def print_rows(rows: Sequence[Row], title: str) -> None:
    """Accuracy against cost."""
    _print_table(
        title,
        ("passes", "seq/s"),
        [(*_columns(row), f"{row.passes:.1f}", _rate(row.sequences_per_second)) for row in rows],
    )


def print_paired_rows(rows: Sequence[PairedRow], title: str) -> None:
    """Accuracy against cost, and by how much the learned policy is better on the same prompts."""
    cells = []
    for row, gain, low, high, better in rows:
        difference = "" if gain is None else f"{_points(gain)} [{_points(low)}, {_points(high)}]"
        cells.append((*_columns(row), difference, "" if better is None else f"{better:.3f}"))
    _print_table(title, ("learned is better by", "P"), cells)


def print_stored_comparison(found: StoredComparison) -> None:
    """A policy against another one on the same prompts."""
    mean, (low, high) = found.difference.mean, found.difference.interval
    print_once(
        f"against {found.label}: {_points(mean)} points [{_points(low)}, {_points(high)}], "
        f"P(better) {found.difference.probability:.3f}, McNemar p {found.mcnemar:.3g}, "
        f"{found.prompts} prompts"
    )


def print_seeds(rows: Sequence[PairedRow]) -> None:
    """How far the training seeds are apart."""
    found = [one.row for one in rows if one.row.policy == "LearnedPolicy"]
    rates = sorted(100 * row.accuracy for row in found)
    shown = ", ".join(f"{100 * row.accuracy:.1f} in {row.nfe:.2f}" for row in found)
    print_once(
        f"learned over {len(found)} seeds: median {statistics.median(rates):.1f} % ({shown} calls)"
    )


def print_speed(speed: Speed) -> None:
    """Tokens per denoiser call and per second."""
    found = speed.throughput
    print_once(
        f"{found.useful_tokens:.1f} tokens before EOS per sequence; per denoiser call "
        f"{found.useful_tokens_per_call:.2f} of them, {found.canvas_tokens_per_call:.2f} positions"
    )
    if found.passes_per_second is None:
        print_once("no rates: only the batch that compiled was generated, now or in earlier runs")
        return
    print_once(
        f"{found.useful_tokens_per_second:,.1f} tokens before EOS and "
        f"{found.canvas_tokens_per_second:,.1f} positions per second"
    )
    if speed.share_of_peak is not None:
        print_once(
            f"{100 * speed.share_of_peak:.1f} % of the measured peak of matrix products on this machine"
        )


def headline(rows: Sequence[Row]) -> str:
    """The learned policy, the first row, against the best baseline that costs no more."""
    ours, *others = rows
    cheap = [row for row in others if row.nfe <= ours.nfe + 0.05]
    cheap = [row for row in cheap if row.policy not in (ours.policy, LIMIT)]
    text = f"learned policy: {100 * ours.accuracy:.1f} % in {ours.nfe:.2f} denoiser calls"
    if not cheap:
        return text
    best = max(cheap, key=lambda row: row.accuracy)
    return (
        f"{text}; best heuristic baseline in no more: {best.policy} {show_settings(best)}, "
        f"{100 * best.accuracy:.1f} % in {best.nfe:.2f}"
    )


def show_settings(row: Row) -> str:
    """Settings as `name=value`, in their order."""
    return " ".join(f"{name}={_short(value)}" for name, value in row.settings.items())


def _print_table(title: str, more: Sequence[str], cells: Sequence[tuple[str, ...]]) -> None:
    """A table whose rows begin with `_columns`; policy and settings share one where two do not fit."""
    named = ("policy", "settings")
    if console.width < NARROW:
        named, cells = ("policy and settings",), [("\n".join(row[:2]), *row[2:]) for row in cells]
    print_table(title, (*named, *FIGURES, *more), cells, texts=len(named))


def _columns(row: Row) -> tuple[str, ...]:
    return (
        row.policy,
        show_settings(row),
        f"{100 * row.accuracy:.1f}",
        f"{100 * row.low:.1f} - {100 * row.high:.1f}",
        f"{row.nfe:.2f} [{row.nfe_min}, {row.nfe_max}]",
    )


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}"


def _rate(per_second: float | None) -> str:
    if per_second is None:
        return "-"
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.3g}"


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
