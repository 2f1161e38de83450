"""Whether settings transfer over widths and depths: how much activations move in the first updates.

Trains transformers of several widths, then of several depths, for a few updates on the same batch, with
the rules of --scaling completed-p and without them. With them, the change of every activation has the
same size whatever the width or depth. Prints how it grows (0: not at all), writes table.json and
coordinates.png, and ends with exit status 1 where a slope with the rules is beyond --tolerance.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax.numpy as jnp

from experiments import _cli as cli
from experiments._cli.console import print_once, print_table, progress
from mdm_jax.denoisers.transformer import TransformerConfig
from mdm_jax.errors import MdmError, check_range
from mdm_jax.evals import plots
from mdm_jax.external_files import expand
from mdm_jax.runs.json_files import write_json
from mdm_jax.runs.task_choice import with_data_dir
from mdm_jax.tasks.base import Task
from mdm_jax.tasks.chains import Chains
from mdm_jax.tasks.checks import check_clean
from mdm_jax.training.coordinates import PLACES, Changes, Check, changes, slopes
from mdm_jax.training.losses import CanvasIds, TokenBatch
from mdm_jax.training.optimizers import OptimizerConfig

RULES = {True: "completed-p", False: "none"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the check.

    Attributes:
      task: gives the sequences.
      data_dir: where the task's files are, for tasks that need some.
      widths: at the least depth; the least of them is the base.
      depths: at the least width; the least of them is the base.
      head_width: of every head; a wider network has more heads.
      alpha: residual branches are multiplied by (base depth / depth)^alpha.
      learning_rate: of Adam at the base.
      updates: made one after another.
      after: the first update that is judged: Adam's first ones see hardly more than signs.
      seeds: of weights and masks, whose mean counts.
      batch_size: sequences.
      tolerance: largest slope that passes.
      run_dir: where table and figure are written.
    """

    task: cli.AnyTask = field(default_factory=Chains)
    data_dir: str | None = None
    widths: tuple[int, ...] = (64, 128, 256, 512)
    depths: tuple[int, ...] = (2, 4, 8, 16)
    head_width: int = 16
    alpha: float = 1.0
    learning_rate: float = 2e-3
    updates: int = 8
    after: int = 4
    seeds: int = 4
    batch_size: int = 8
    tolerance: float = 0.25
    run_dir: str = "runs/coordinate_check"

    def __post_init__(self) -> None:
        for name in ("widths", "depths"):
            sizes = getattr(self, name)
            if len(set(sizes)) < 2 or min(sizes) < 1:
                raise MdmError(f"{name} {sizes} must be two different sizes or more, from 1 on")
        for name in ("head_width", "seeds", "batch_size"):
            check_range(name, getattr(self, name), 1)
        check_range("after", self.after, 1)
        check_range("updates", self.updates, self.after)
        check_range("alpha", self.alpha, 0.5, 1)
        check_range("learning_rate", self.learning_rate, above=0)
        check_range("tolerance", self.tolerance, above=0)
        for width in self.widths:
            if width % self.head_width:
                raise MdmError(f"head_width {self.head_width} does not divide the width {width}")


class Found(NamedTuple):
    """How activations move over the sizes of one kind, under one rule."""

    rule: str
    size: str  # width or depth
    changes: dict[int, Changes]

    def steepest(self, after: int) -> dict[str, float]:
        """By place, the slope that is furthest from 0, of the updates from `after` on."""
        found = slopes(self.changes, after)
        return {
            place: max((one.slope for one in found if one.place == place), key=abs)
            for place in PLACES
        }


def run(config: Config) -> list[Found]:
    """Measure, print, draw, and judge."""
    task = with_data_dir(config.task, config.data_dir)
    check_clean(task)
    check = prepared(task, config)
    sizes = {"width": config.widths, "depth": config.depths}
    total = 2 * sum(len(each) for each in sizes.values())
    found = []
    with progress("updating", total) as advance:
        for scaled in RULES:
            for size, values in sizes.items():
                moved = {}
                for value in sorted(values):
                    moved[value] = changes(shape(config, size, value, scaled), check)
                    advance(1, f"{RULES[scaled]}, {size} {value}")
                found.append(Found(RULES[scaled], size, moved))
    report(config, found)
    return found


def prepared(task: Task, config: Config) -> Check:
    """What all sizes have in common."""
    ids = task.vocabulary
    batch = TokenBatch(*map(jnp.asarray, task.train_batch(0, 0, config.batch_size)[:2]))
    optimizer = OptimizerConfig(learning_rate=config.learning_rate, warmup=0)
    canvas = CanvasIds(ids.mask_id, ids.pad_id)
    return Check(batch, ids.size, canvas, optimizer, config.updates, config.seeds)


def shape(config: Config, size: str, value: int, scaled: bool) -> TransformerConfig:
    """A network of one width or depth, the other as in the base."""
    width, depth = min(config.widths), min(config.depths)
    base = {"base_width": width, "base_depth": depth, "alpha": config.alpha} if scaled else {}
    sizes = {"width": width, "depth": depth} | {size: value}
    heads = sizes["width"] // config.head_width
    return TransformerConfig(heads=heads, **sizes, **base)


def report(config: Config, found: list[Found]) -> None:
    """Print the slopes, keep them, draw; exit status 1 where the rules fail."""
    directory = expand(config.run_dir)
    directory.mkdir(parents=True, exist_ok=True)
    steepest = [one.steepest(config.after) for one in found]
    cells = [
        (one.rule, one.size, *(f"{slopes[place]:+.2f}" for place in PLACES))
        for one, slopes in zip(found, steepest, strict=True)
    ]
    print_table(
        "slope of the change of activations on the size, in logs",
        ("scaling", "size", *PLACES),
        cells,
    )
    kept = [
        {"scaling": one.rule, "size": one.size, "slopes": slopes}
        for one, slopes in zip(found, steepest, strict=True)
    ]
    write_json(directory / "table.json", kept)
    panels = {f"{one.rule}, {one.size}": one.changes for one in found}
    plots.save(plots.coordinates_figure(panels), directory / "coordinates.png")
    print_once(f"figure: {directory / 'coordinates.png'}")
    failed = [
        f"{place} by {one.size} {slopes[place]:+.2f}"
        for one, slopes in zip(found, steepest, strict=True)
        for place in PLACES
        if one.rule == RULES[True] and abs(slopes[place]) > config.tolerance
    ]
    if failed:
        print_once(f"failed: beyond {config.tolerance:g}: {', '.join(failed)}")
        raise SystemExit(1)
    print_once(f"passed: every slope of {RULES[True]} is within {config.tolerance:g}")


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
