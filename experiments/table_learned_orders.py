"""Orders that adapt to the prompt, over training seeds, beside every heuristic at equal denoiser calls.

For every task: one policy per training seed at all prices of a call, the heuristics at all of their
knobs, and any other learned policies given by --others, all on the same prompts. Prints accuracy by
number of calls (between two settings: of a policy that takes either of them at random), and every setting
of the median seed beside the best heuristic that takes no more calls. Exact conditionals with
--learn.oracle. Runs that are finished are not done again.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from experiments import _cli as cli
from experiments import learn_order
from experiments._cli.console import print_once, print_table
from experiments._cli.learning import PRICE_COLUMNS, comparison
from experiments._cli.paper_tables import (
    CHAINS,
    SUDOKU,
    Case,
    TableConfig,
    chosen_cases,
    trained_denoiser,
)
from experiments._cli.tables import frontier_cells
from mdm_jax.errors import MdmError, check_range
from mdm_jax.evals.plots.run_figures import draw_price_seeds
from mdm_jax.evals.price_frontier import (
    AtCalls,
    Frontiers,
    against_best,
    median_seed,
    over_seeds_at,
    price_frontiers,
)
from mdm_jax.evals.score import Outcome
from mdm_jax.runs.config import read_config
from mdm_jax.runs.json_files import write_json
from mdm_jax.runs.policies import load_policy
from mdm_jax.tasks.markov_chain import MarkovChain

MARKOV_CHAIN = Case(task=MarkovChain())  # always under exact conditionals
COLUMNS = ("calls", "median %", "worst seed", "best seed", "best heuristic", "its accuracy %")


@dataclass(frozen=True, kw_only=True)
class Config(TableConfig):
    """Settings of the table.

    Attributes:
      learn: settings of learning an order; task, denoiser, seed and run_dir are set here.
      calls: mean numbers of denoiser calls at which accuracies are compared.
      others: run directories of other learned policies for the same task and denoiser, such as orders
        by variational inference or policies from rewards.
    """

    cases: cli.Fixed[tuple[Case, ...]] = (SUDOKU, CHAINS, MARKOV_CHAIN)
    learn: learn_order.Config = field(default_factory=learn_order.Config)
    calls: tuple[float, ...] = (3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 8.0)
    others: tuple[str, ...] = ()
    run_dir: str = "runs/table_learned_orders"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.others and self.only is None:
            raise MdmError("--others are for one task: give --only as well")
        if not self.calls:
            raise MdmError("give at least one of --calls")
        for calls in self.calls:
            check_range("calls", calls, 1)


def run(config: Config) -> dict[str, list[AtCalls]]:
    """Train what is missing, compare, print and draw; rows by task."""
    for other in config.others:
        read_config(other)  # refused before anything is trained
    return {case.task.name: compare(config, case, home) for case, home in chosen_cases(config)}


def compare(config: Config, case: Case, home: Path) -> list[AtCalls]:
    """The table of one task."""
    oracle = config.learn.oracle or case.train is None
    denoiser = (
        None if oracle else config.learn.denoiser or trained_denoiser(case, home / "denoiser")
    )
    settings = replace(config.learn, task=case.task, denoiser=denoiser, oracle=oracle)
    policies, denoise = [], None
    for seed in config.seeds:
        print_once(f"{case.task.name}, seed {seed}")
        one = replace(settings, seed=seed, run_dir=str(home / f"seed-{seed}"))
        policy, denoise = learn_order.learn(one, denoise)
        policies.append(policy)
    evaluation = replace(settings, seed=0, examples=config.examples, run_dir=str(home))
    sampling = learn_order.sampling(evaluation)
    with comparison(evaluation, denoise, sampling) as evaluator:
        progress = cli.REPORTER.progress
        found = price_frontiers(evaluator, policies, settings.replay.prices, progress)
        others = [evaluator.evaluate(load_policy(run, case.task)) for run in config.others]
    rows = [over_seeds_at(found, calls) for calls in config.calls]
    report(config, case, home, found, others, rows)
    return rows


def report(
    config: Config,
    case: Case,
    home: Path,
    found: Sequence[Frontiers],
    others: Sequence[Outcome],
    rows: Sequence[AtCalls],
) -> None:
    """Print, keep and draw the table of one task."""
    name, middle = case.task.name, median_seed(found)
    title = f"{name}: {len(found)} seeds, {config.examples} prompts"
    print_table(title, COLUMNS, [cells(row) for row in rows], texts=0)
    columns = (*PRICE_COLUMNS, "learned is better by", "P")
    table = frontier_cells(against_best(found[middle]))
    print_table(f"{name}, seed {config.seeds[middle]}", columns, table, texts=0)
    for run, other in zip(config.others, others, strict=True):
        print_once(f"{run}: {100 * other.row.accuracy:.1f} % in {other.row.nfe:.2f} calls")
    kept = {
        "by_calls": [row._asdict() for row in rows],
        "seeds": [[asdict(one.row) for one in each.learned] for each in found],
        "others": [asdict(one.row) for one in (*found[0].baselines, *others)],
    }
    write_json(home / "table.json", kept)
    by_seed = dict(zip((f"seed {seed}" for seed in config.seeds), found, strict=True))
    draw_price_seeds(by_seed, others, home)
    print_once(f"figure: {home / 'frontier.png'}")


def cells(row: AtCalls) -> tuple[str, ...]:
    """A line of the table; "-" where every setting takes more calls."""
    found = (statistics.median(row.learned), min(row.learned), max(row.learned))
    shown = ["-" if math.isnan(x) else f"{100 * x:.1f}" for x in (*found, row.baseline_accuracy)]
    return f"{row.calls:g}", *shown[:3], row.baseline, shown[3]


PRESETS = {"default": Config()}

if __name__ == "__main__":
    cli.main(Config, run, __doc__, PRESETS)
