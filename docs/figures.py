"""The drawings of the page on the idea, made anew at every build: python docs/figures.py FOLDER."""

import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

from mdm_jax.policies.heuristics import LeftToRight
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample_one
from mdm_jax.tasks.sudoku.task import Sudoku, all_grids

INK, GREY, PALE, BLUE, RED = "#1f2933", "#7b8794", "#eef1f4", "#2f6fdb", "#c2402f"
STEPS = ("#1f4e9c", "#4f86d9", "#9cc0f0", "#dbe8fa")  # early to late
STYLE = {"font.family": "DejaVu Sans", "font.size": 11, "svg.hashsalt": "mdm_jax"}

ROW_BY_ROW = np.arange(16) // 4
BOX_BY_BOX = np.array([0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3])
APART = np.array([0, 1, 3, 3, 3, 2, 3, 3, 3, 3, 0, 3, 3, 3, 3, 1])  # found by search


def draw_all(folder: Path) -> None:
    """Write every drawing into a folder."""
    folder.mkdir(exist_ok=True)
    drawings = {"loop": loop, "generation": generation, "together": together, "orders": orders}
    with plt.rc_context(STYLE), plt.ioff():
        for name, draw in drawings.items():
            figure = draw()
            figure.savefig(folder / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
            plt.close(figure)


def loop() -> plt.Figure:
    """Canvas -> denoiser -> policy -> canvas: the sampler in one drawing."""
    figure, axes = plt.subplots(figsize=(7.6, 2.5))
    axes.set(xlim=(0, 11.4), ylim=(-0.2, 3.4))
    axes.axis("off")
    texts = (("canvas", "tokens\nand MASK"), ("denoiser", "logits at every\nposition"))
    texts += (("policy", "which positions\nto reveal"), ("new canvas", "fewer MASKs"))
    for place, (title, text) in enumerate(texts):
        left = 2.9 * place
        colour = BLUE if title in ("denoiser", "policy") else GREY
        box = FancyBboxPatch((left + 0.1, 1.1), 2.1, 1.7, "round,pad=0.05", ec=colour, fc="white")
        axes.add_patch(box)
        axes.text(left + 1.15, 2.35, title, ha="center", color=colour, weight="bold")
        axes.text(left + 1.15, 1.6, text, ha="center", va="center", color=INK, size=9)
        if place:
            _arrow(axes, (left - 0.6, 1.95), (left - 0.0, 1.95))
    _arrow(axes, (9.85, 1.0), (1.15, 1.0), "arc3,rad=-0.13")
    axes.text(5.5, -0.1, "repeat until nothing is masked", ha="center", color=GREY, size=9)
    return figure


def _arrow(axes: Axes, tail: tuple, head: tuple, bend: str = "arc3") -> None:
    style = {"arrowstyle": "-|>", "color": GREY, "lw": 1.4, "connectionstyle": bend}
    axes.annotate("", head, tail, arrowprops=style)


def generation() -> plt.Figure:
    """One puzzle completed in four denoiser calls with exact conditionals."""
    task = Sudoku()
    canvas = jnp.asarray([3, 4, 4, 4, 4, 4, 0, 4, 4, 2, 4, 4, 4, 4, 4, 1])
    ids = task.vocabulary
    config = SamplerConfig(ids.mask_id, ids.pad_id, budget=16, temperature=1.0)
    done = sample_one(
        jax.random.key(0), canvas, denoise=task.oracle(), policy=LeftToRight(12), config=config
    )
    revealed = np.asarray(done.revealed_at)
    figure, axes = plt.subplots(1, 5, figsize=(7.6, 1.9))
    for panel, step in zip(axes, (0, 3, 6, 9, 12), strict=True):
        shown = revealed < step
        new = (revealed >= step - 3) & shown & (revealed >= 0)
        _grid(panel, np.where(shown, np.asarray(done.canvas) + 1, 0), new, revealed < 0)
        panel.set_title(f"after {step} calls", size=9, color=GREY)
    return figure


def _grid(
    axes: Axes, digits: Int[np.ndarray, " 16"], new: Bool[np.ndarray, " 16"], given: np.ndarray
) -> None:
    """A 4x4 grid: 0 is MASK; what is new is blue, what was given bold."""
    _frame(axes)
    for cell, digit in enumerate(digits):
        x, y = cell % 4 + 0.5, 3.5 - cell // 4
        colour = PALE if digit == 0 else "white"
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fc=colour, ec="none", zorder=0))
        text = str(digit) if digit else "·"
        ink = GREY if digit == 0 else (BLUE if new[cell] else INK)
        weight = "bold" if given[cell] or new[cell] else "normal"
        axes.text(x, y, text, ha="center", va="center", color=ink, weight=weight)


def _frame(axes: Axes) -> None:
    """The lines of a 4x4 grid, thicker between boxes."""
    axes.set(xlim=(-0.05, 4.05), ylim=(-0.05, 4.05), aspect="equal")
    axes.axis("off")
    for line in range(5):
        width = 1.4 if line % 2 == 0 else 0.5
        axes.plot([line, line], [0, 4], color=GREY, lw=width)
        axes.plot([0, 4], [line, line], color=GREY, lw=width)


def together() -> plt.Figure:
    """Two cells of one row, 1 and 2 missing: as they are, one after the other, and at once."""
    one_by_one, at_once = np.array([[0, 0.5], [0.5, 0]]), np.full((2, 2), 0.25)
    figure, axes = plt.subplots(1, 2, figsize=(6.4, 2.7))
    titles = "one after the other\nright every time", "both at once\nwrong half of the time"
    for panel, probs, title in zip(axes, (one_by_one, at_once), titles, strict=True):
        _pairs(panel, probs)
        panel.set_title(title, size=10, color=INK)
    return figure


def _pairs(axes: Axes, probs: Float[np.ndarray, "2 2"]) -> None:
    """Probabilities of two tokens together; equal ones break the row."""
    axes.set(xlim=(0, 2), ylim=(0, 2), aspect="equal", xticks=[0.5, 1.5], yticks=[0.5, 1.5])
    axes.set_xticklabels(["1", "2"])
    axes.set_yticklabels(["2", "1"])
    axes.set_xlabel("second cell", color=GREY, size=9)
    axes.set_ylabel("first cell", color=GREY, size=9)
    axes.tick_params(length=0, colors=INK)
    axes.spines[:].set_color(GREY)
    for first in range(2):
        for second in range(2):
            share, wrong = probs[first, second], first == second
            colour = RED if wrong else BLUE
            corner = (second, 1 - first)
            axes.add_patch(Rectangle(corner, 1, 1, fc=colour, alpha=0.9 * share, ec="white"))
            text = f"{share:.2g}" + ("\nbreaks the row" if wrong and share else "")
            x, y = second + 0.5, 1.5 - first
            axes.text(x, y, text, ha="center", va="center", color=INK, size=9)


def orders() -> plt.Figure:
    """Three orders of four calls on the empty grid, and how often each gives a valid one."""
    shown: Sequence[tuple[str, Int[np.ndarray, " 16"]]]
    shown = (("row by row", ROW_BY_ROW), ("box by box", BOX_BY_BOX), ("cells apart", APART))
    figure, axes = plt.subplots(1, 3, figsize=(7.4, 2.7))
    for panel, (name, order) in zip(axes, shown, strict=True):
        _frame(panel)
        for cell, step in enumerate(order):
            x, y = cell % 4, 3 - cell // 4
            panel.add_patch(Rectangle((x, y), 1, 1, fc=STEPS[step], ec="none", zorder=0))
            ink = "white" if step < 2 else INK
            panel.text(x + 0.5, y + 0.5, str(step + 1), ha="center", va="center", color=ink)
        valid = f"{100 * share_valid(order):.1f}".removesuffix(".0")
        panel.set_title(f"{name}\n{valid} % valid", size=10, color=INK)
    return figure


def share_valid(order: Int[np.ndarray, " 16"]) -> float:
    """Probability that the empty grid, filled in this order from exact conditionals, is valid.

    The sum over all 288 grids of the product of each cell's conditional at the call that reveals it.
    """
    grids = all_grids()
    log_prob = np.zeros(len(grids))
    for step in range(order.max() + 1):
        shown = order < step
        agree = (grids[:, None, shown] == grids[None, :, shown]).all(axis=-1)
        for cell in np.flatnonzero(order == step):
            same = grids[:, None, cell] == grids[None, :, cell]
            log_prob += np.log((agree & same).sum(axis=1) / agree.sum(axis=1))
    return float(np.exp(log_prob).sum())


if __name__ == "__main__":
    draw_all(Path(sys.argv[1]))
