"""What rows of a table say, in a sentence."""

import statistics
from collections.abc import Sequence

from mdm_jax.evals.paired import PairedRow, StoredComparison
from mdm_jax.evals.score import Row
from mdm_jax.evals.static_order_limit import NAME as LIMIT


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
        f"{text}; best heuristic baseline in no more: {best.policy} {settings_text(best)}, "
        f"{100 * best.accuracy:.1f} % in {best.nfe:.2f}"
    )


def settings_text(row: Row) -> str:
    """Settings as `name=value`, in their order."""
    return " ".join(f"{name}={_short(value)}" for name, value in row.settings.items())


def against_stored(found: StoredComparison) -> str:
    """A policy against another one on the same prompts."""
    mean, (low, high) = found.difference.mean, found.difference.interval
    return (
        f"against {found.label}: {points(mean)} points [{points(low)}, {points(high)}], "
        f"P(better) {found.difference.probability:.3f}, McNemar p {found.mcnemar:.3g}, "
        f"{found.prompts} prompts"
    )


def over_seeds(rows: Sequence[PairedRow]) -> str:
    """How far the training seeds are apart."""
    found = [one.row for one in rows if one.row.policy == "LearnedPolicy"]
    rates = sorted(100 * row.accuracy for row in found)
    shown = ", ".join(f"{100 * row.accuracy:.1f} in {row.nfe:.2f}" for row in found)
    return (
        f"learned over {len(found)} seeds: median {statistics.median(rates):.1f} % ({shown} calls)"
    )


def points(difference: float) -> str:
    """A difference of accuracies in points, with its sign."""
    return f"{100 * difference:+.1f}"


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
