"""The table of "Learning unmasking policies for diffusion language models" (arXiv:2512.09106).

For every task and every weight of speed in the reward: policies of several training seeds, the heuristic
baselines at the same numbers of denoiser calls, and a figure of both frontiers. The default is an
embedded setting; --preset paper is the published one for --learn.denoiser, the directory of a checkpoint.
Runs that are finished are not done again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from experiments import _cli as cli
from experiments import learn_policy
from experiments._cli.console import print_once
from experiments._cli.paper_tables import (
    Case,
    TableConfig,
    chosen_cases,
    compare_seeds,
    print_published,
    trained_denoiser,
)
from mdm_jax.errors import MdmError, check_range
from mdm_jax.evals import plots
from mdm_jax.evals.paired import PairedRow
from mdm_jax.evals.published_tables import UNMASKING_POLICIES
from mdm_jax.evals.sentences import headline
from mdm_jax.rl.rewards import Multiplicative
from mdm_jax.tasks.prompted import PromptedGsm8k, PromptedMath


@dataclass(frozen=True, kw_only=True)
class Config(TableConfig):
    """Settings of the table.

    Attributes:
      learn: settings of learning; task, seed, weight and run_dir are set here, and its denoiser is
        trained here unless it is given.
      weights: of speed in the reward.
    """

    learn: learn_policy.Config = field(default_factory=learn_policy.Config)
    weights: tuple[float, ...] = (10.0, 3.0, 1.0, 0.3, 0.0)
    run_dir: str = "runs/table_unmasking_policies"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.weights:
            raise MdmError("give at least one of --weights")
        for weight in self.weights:
            check_range("weights", weight, 0)


# the published setting, but for its training set: there one policy learned from GSM8K and MATH together
PAPER = Config(
    cases=(Case(task=PromptedGsm8k()), Case(task=PromptedMath())),
    learn=replace(learn_policy.PUBLISHED, eval_batch_size=1),
    seeds=(0, 1),
    examples=1319,
    published=True,
    run_dir="runs/table_unmasking_policies-paper",
)
PRESETS = {"default": Config(), "paper": PAPER}


def run(config: Config) -> dict[str, list[PairedRow]]:
    """Train what is missing, compare, print, draw; rows by task and weight."""
    tables = {}
    for case, home in chosen_cases(config):
        denoiser = config.learn.denoiser or trained_denoiser(case, home / "denoiser")
        learn = replace(config.learn, task=case.task, denoiser=denoiser)
        found = {}
        for weight in config.weights:
            title = f"{case.task.name}, weight {weight:g}"
            found[title] = compare_weight(config, learn, weight, home, title)
        draw(list(found.values()), home / "frontier.png")
        tables |= found
    if config.published:
        print_published(UNMASKING_POLICIES)
    return tables


def compare_weight(
    config: Config, learn: learn_policy.Config, weight: float, home: Path, title: str
) -> list[PairedRow]:
    """Policies of all seeds at one weight of speed, and the baselines."""
    objective = replace(learn.objective, reward=Multiplicative(weight))
    learn = replace(learn, objective=objective, run_dir=f"{home}/weight-{weight:g}")
    rows = compare_seeds(config, learn_policy.learn, learn, learn_policy.sampling(learn), title)
    print_once(headline([paired_row.row for paired_row in rows]) + "\n")
    return rows


def draw(tables: Sequence[Sequence[PairedRow]], path: Path) -> None:
    """All rows of all weights: one line per baseline, and the learned policies by weight."""
    rows = {paired_row.row.label: paired_row.row for table in tables for paired_row in table}
    plots.save(plots.frontier_figure(list(rows.values())), path)
    print_once(f"figure: {path}")


if __name__ == "__main__":
    cli.main(Config, run, __doc__, PRESETS)
