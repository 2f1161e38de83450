"""What a comparison on canvases of several modalities shows beside accuracy and cost."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from experiments._cli.console import print_table
from mdm_jax.evals import plots
from mdm_jax.evals.evaluator import Evaluator
from mdm_jax.evals.modal_orders import (
    SHOWN_CALLS,
    best_by_calls,
    compare_fixed_orders,
    made_modalities,
    reveal_cells,
    reveals,
)
from mdm_jax.evals.paired import paired_row
from mdm_jax.evals.price_frontier import Frontiers
from mdm_jax.evals.score import Outcome
from mdm_jax.evals.sentences import points
from mdm_jax.runs.json_files import write_json
from mdm_jax.tasks.base import stream_of

CALLS = tuple(f"call {number}" for number in range(1, SHOWN_CALLS + 1))
FEW = 6.0  # mean denoiser calls of the settings that are drawn, at most
TABLE, FIGURE = "modalities.json", "modalities.png"


def report_modalities(evaluator: Evaluator, found: Frontiers, home: Path) -> None:
    """Print which call reveals how much of each modality, and what fixed orders between them reach;
    keep both, and draw the first. Nothing where a task generates fewer than two modalities.
    """
    if len(made_modalities(evaluator)) < 2:
        return
    fixed = best_by_calls(compare_fixed_orders(evaluator))
    shown = _shown(found, fixed)
    names = stream_of(evaluator.task).names
    counts = {
        name: reveals(evaluator.store.read(one.row.label).revealed_at, stream_of(evaluator.task))
        for name, one in shown.items()
    }
    lines = [_line(name, one, reveal_cells(counts[name])) for name, one in shown.items()]
    columns = ("policy", "accuracy %", "mean calls", *CALLS, "later")
    print_table(f"positions of {' / '.join(names)} that a call reveals", columns, lines)
    print_table(
        "fixed orders between modalities, the best in so many calls on these prompts",
        ("order", "accuracy %", "95 % interval", "calls", "learned is better by", "P"),
        [_beside(name, one, found.learned) for name, one in fixed.items()],
    )
    kept = {name: asdict(shown[name].row) | {"reveals": counts[name].tolist()} for name in shown}
    write_json(home / TABLE, kept)
    few = {name: each for name, each in counts.items() if shown[name].row.nfe <= FEW}
    plots.save(plots.modality_calls_figure(few or counts, names), home / FIGURE)


def _shown(found: Frontiers, fixed: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """The learned policy at its prices, the best heuristic in as few calls, and fixed orders."""
    shown = {f"learned, price {one.row.settings['price']:.3g}": one for one in found.learned}
    cheap = [one for one in found.baselines if one.row.nfe <= SHOWN_CALLS]
    best = max(cheap, key=lambda one: one.row.accuracy, default=None)
    heuristic = {} if best is None else {f"{best.row.policy}, {best.row.nfe:.3g} calls": best}
    return shown | heuristic | dict(fixed)


def _line(name: str, one: Outcome, cells: Sequence[str]) -> tuple[str, ...]:
    return name, f"{100 * one.row.accuracy:.1f}", f"{one.row.nfe:.2f}", *cells


def _beside(name: str, one: Outcome, learned: Sequence[Outcome]) -> tuple[str, ...]:
    """A fixed order, and by how much the learned policy is better in no more calls."""
    row = one.row
    ours = f"{100 * row.accuracy:.1f}", f"{100 * row.low:.1f} - {100 * row.high:.1f}"
    cheap = [each for each in learned if each.row.nfe <= row.nfe + 0.05]
    if not cheap:
        return name, *ours, f"{row.nfe:.2f}", "", ""
    gain = paired_row(max(cheap, key=lambda each: each.row.accuracy), one)
    shown = f"{points(gain.gain)} [{points(gain.low)}, {points(gain.high)}]"
    return name, *ours, f"{row.nfe:.2f}", shown, f"{gain.better:.3f}"
