"""Orders that adapt to the prompt, over training seeds, beside every heuristic at equal denoiser calls.

For every task: one policy per training seed at all prices of a call (or the policies of finished runs,
--runs), every family of heuristics at up to 25 settings, and any other learned policies given by
--others (by variational inference, from rewards), all on the same prompts. Prints accuracy by number
of calls (between two settings: of a policy that takes either of them at random) beside the exact
limit, where there is one, and every setting of the median seed beside the best heuristic that takes no
more calls. With --budgets, orders that are fixed before generation as well: the best static one under
exact conditionals, and the best one of each prompt. Exact conditionals with --learn.oracle. Runs that
are finished are not done again.
"""

import math
import statistics
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

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
from experiments._cli.tables import frontier_cells, print_rows
from mdm_jax.denoisers.base import Denoise
from mdm_jax.errors import MdmError, check_range
from mdm_jax.evals.exact_limit import exact_limits
from mdm_jax.evals.fixed_orders import fixed_orders
from mdm_jax.evals.plots.run_figures import draw_price_seeds
from mdm_jax.evals.price_frontier import (
    AtCalls,
    Frontiers,
    against_best,
    all_families,
    median_seed,
    over_seeds_at,
    price_frontiers,
)
from mdm_jax.evals.score import Outcome, Row
from mdm_jax.orders.prompt_search import PromptSearch
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.runs.adaptive import price_range
from mdm_jax.runs.config import read_config
from mdm_jax.runs.denoisers import given_denoiser
from mdm_jax.runs.json_files import write_json
from mdm_jax.runs.policies import load_policy
from mdm_jax.tasks.markov_chain import MarkovChain

MARKOV_CHAIN = Case(task=MarkovChain())  # always under exact conditionals
COLUMNS = ("calls", "median %", "worst seed", "best seed", "best heuristic", "its %", "limit %")


class Found(NamedTuple):
    """What the table of one task is made from."""

    seeds: list[Frontiers]
    others: list[Outcome]
    fixed: list[Row]  # orders that are fixed before generation
    by_calls: list[AtCalls]
    limits: list[float]  # at the same calls; NaN where it is not known


@dataclass(frozen=True, kw_only=True)
class Config(TableConfig):
    """Settings of the table.

    Attributes:
      learn: settings of learning an order; task, denoiser, seed and run_dir are set here.
      calls: mean numbers of denoiser calls at which accuracies are compared.
      runs: run directories of learn_order for the same task and denoiser, one per seed, in place of
        training.
      others: run directories of other learned policies for the same task and denoiser, such as orders
        by variational inference or policies from rewards.
      budgets: most calls of orders that are fixed before generation.
      searched: the search of an order for each prompt.
    """

    cases: cli.Fixed[tuple[Case, ...]] = (SUDOKU, CHAINS, MARKOV_CHAIN)
    learn: learn_order.Config = field(
        default_factory=lambda: replace(learn_order.Config(), steps=800)
    )
    calls: tuple[float, ...] = (3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 8.0)
    runs: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    budgets: tuple[int, ...] = ()
    searched: PromptSearch = field(default_factory=PromptSearch)
    run_dir: str = "runs/table_learned_orders"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("runs", "others"):
            if getattr(self, name) and self.only is None:
                raise MdmError(f"--{name} are for one task: give --only as well")
        for budget in self.budgets:
            check_range("budgets", budget, 1)
        if not self.calls:
            raise MdmError("give at least one of --calls")
        for calls in self.calls:
            check_range("calls", calls, 1)


def run(config: Config) -> dict[str, list[AtCalls]]:
    """Train what is missing, compare, print and draw; rows by task."""
    for other in (*config.runs, *config.others):
        read_config(other)  # refused before anything is trained
    return {case.task.name: compare(config, case, home) for case, home in chosen_cases(config)}


def compare(config: Config, case: Case, home: Path) -> list[AtCalls]:
    """The table of one task."""
    oracle = config.learn.oracle or case.train is None
    denoiser = (
        None if oracle else config.learn.denoiser or trained_denoiser(case, home / "denoiser")
    )
    settings = replace(config.learn, task=case.task, denoiser=denoiser, oracle=oracle)
    policies, denoise = adaptive_policies(config, settings, home)
    evaluation = replace(settings, seed=0, examples=config.examples, run_dir=str(home))
    sampling = learn_order.sampling(evaluation)
    with comparison(evaluation, denoise, sampling) as evaluator:
        progress = cli.REPORTER.progress
        prices = price_range(config.runs[0]) if config.runs else settings.replay.prices
        found = price_frontiers(evaluator, policies, prices, progress, all_families)
        others = [evaluator.evaluate(load_policy(run, case.task)) for run in config.others]
        fixed = fixed_orders(evaluator, config.budgets, config.searched, home, progress)
    rows = [over_seeds_at(found, calls) for calls in config.calls]
    limits = exact_limits(case.task, config.calls)
    report(config, case, home, Found(found, others, fixed, rows, limits))
    return rows


def adaptive_policies(
    config: Config, settings: learn_order.Config, home: Path
) -> tuple[list[AdaptivePolicy], Denoise]:
    """One policy per seed or run, and their denoiser."""
    if config.runs:
        denoise = given_denoiser(settings.task, settings.denoiser, settings.oracle)
        return [load_policy(run, settings.task) for run in config.runs], denoise
    policies, denoise = [], None
    for seed in config.seeds:
        print_once(f"{settings.task.name}, seed {seed}")
        one = replace(settings, seed=seed, run_dir=str(home / f"seed-{seed}"))
        policy, denoise = learn_order.learn(one, denoise)
        policies.append(policy)
    return policies, denoise


def report(config: Config, case: Case, home: Path, found: Found) -> None:
    """Print, keep and draw the table of one task."""
    name, runs = case.task.name, [Path(run).name for run in config.runs]
    seeds = runs or [f"seed {seed}" for seed in config.seeds]
    middle = median_seed(found.seeds)
    title = f"{name}: {len(seeds)} seeds, {config.examples} prompts"
    lines = [cells(*line) for line in zip(found.by_calls, found.limits, strict=True)]
    print_table(title, COLUMNS, lines, texts=0)
    columns = (*PRICE_COLUMNS, "learned is better by", "P")
    table = frontier_cells(against_best(found.seeds[middle]))
    print_table(f"{name}, {seeds[middle]}", columns, table, texts=0)
    if found.fixed:
        print_rows(found.fixed, f"{name}: orders that are fixed before generation")
    for run, other in zip(config.others, found.others, strict=True):
        print_once(f"{run}: {100 * other.row.accuracy:.1f} % in {other.row.nfe:.2f} calls")
    others = [one.row for one in (*found.seeds[0].baselines, *found.others)]
    kept = {
        "by_calls": [row._asdict() for row in found.by_calls],
        "limits": found.limits,
        "seeds": [[asdict(one.row) for one in each.learned] for each in found.seeds],
        "others": [asdict(row) for row in (*others, *found.fixed)],
    }
    write_json(home / "table.json", kept)
    draw_price_seeds(dict(zip(seeds, found.seeds, strict=True)), found.others, home)
    print_once(f"figure: {home / 'frontier.png'}")


def cells(row: AtCalls, limit: float) -> tuple[str, ...]:
    """A line of the table; "-" where every setting takes more calls, or nothing is known."""
    found = (statistics.median(row.learned), min(row.learned), max(row.learned))
    shown = [
        "-" if math.isnan(x) else f"{100 * x:.1f}" for x in (*found, row.baseline_accuracy, limit)
    ]
    return f"{row.calls:g}", *shown[:3], row.baseline, *shown[3:]


PRESETS = {"default": Config()}

if __name__ == "__main__":
    cli.main(Config, run, __doc__, PRESETS)
