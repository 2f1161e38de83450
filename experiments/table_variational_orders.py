"""The table of "Learning generation orders by variational inference" (arXiv:2602.23968).

For every task and budget: the learned order of several training seeds, the heuristic baselines at its
mean and its maximum number of denoiser calls, threshold policies at matched calls, and, where the task
can be listed, the best static order under exact conditionals. The default is an embedded setting;
--preset paper is the published one, --preset paper-smoke the same path with a tiny network for a few
updates, --preset oracle the empty 4x4 grid under exact conditionals.
Runs that are finished are not done again.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from experiments import _cli as cli
from experiments import learn_variational_order, train_denoiser
from experiments._cli.paper_tables import (
    SUDOKU,
    Case,
    TableConfig,
    chosen_cases,
    compare_seeds,
    print_published,
    trained_denoiser,
)
from mdm_jax.denoisers.base import Denoise
from mdm_jax.denoisers.transformer import TransformerConfig
from mdm_jax.errors import MdmError, check_range
from mdm_jax.evals.paired import PairedRow
from mdm_jax.evals.published_tables import VARIATIONAL_ORDERS
from mdm_jax.orders.search import SearchConfig
from mdm_jax.orders.variational.objective import OrderObjective
from mdm_jax.orders.variational.posterior import ScorerConfig
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.policies.networks.policy_network import PolicyConfig
from mdm_jax.runs.denoisers import exact_denoiser, load_denoiser
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.gsm8k import Gsm8k
from mdm_jax.tasks.sudoku import Sudoku
from mdm_jax.training.optimizers import OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class Config(TableConfig):
    """Settings of the table.

    Attributes:
      learn: settings of learning an order; task, denoiser, search, budget, seed and run_dir are set
        here.
      budgets: most denoiser calls.
      control_steps: further updates of the baselines' denoiser, from the weights that the orders start
        from and with the optimiser of `learn`, as a match for one that is fine-tuned jointly; 0: none.
    """

    learn: learn_variational_order.Config = field(default_factory=learn_variational_order.Config)
    budgets: tuple[int, ...] = (3, 4, 5)
    control_steps: int = 0
    run_dir: str = "runs/table_variational_orders"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.budgets:
            raise MdmError("give at least one of --budgets")
        for budget in self.budgets:
            check_range("budgets", budget, 1)
        check_range("control_steps", self.control_steps, 0)


# 170M non-embedding parameters as in SMDM; 15 + 5 epochs of the augmented data (arXiv:2602.23968)
ADAMW = OptimizerConfig(learning_rate=2e-4, b2=0.95, weight_decay=0.1)
PAPER = Config(
    cases=(
        Case(
            task=Gsm8k(answers="equations"),
            train=train_denoiser.Config(
                model=TransformerConfig(
                    width=768, depth=18, heads=12, mlp=3072, dtype="bfloat16", remat=True, scan=True
                ),
                steps=45_000,
                batch_size=256,
                optimizer=ADAMW,
                ema_decay=0.9999,
                eval_every=5000,
                save_every=5000,
                log_every=100,
            ),
            search=SearchConfig(proposals=0),
        ),
    ),
    learn=learn_variational_order.Config(
        scorer=ScorerConfig(width=256, depth=4),
        policy=PolicyConfig(width=256, hidden=True),
        objective=OrderObjective(temperature=0.1, predicted_nll=False),
        joint=True,
        steps=15_000,
        batch_size=32,
        posterior_optimizer=ADAMW,
        policy_optimizer=ADAMW,
        denoiser_optimizer=replace(ADAMW, learning_rate=5e-5),
        ema_decay=0.999,
        temperature=0.0,
        eval_batch_size=128,
    ),
    budgets=(5, 10, 15),
    seeds=(0,),
    control_steps=15_000,
    examples=1319,
    published=True,
    run_dir="runs/table_variational_orders-paper",
)
# the same path with a tiny network for a few updates: shows that the preset runs, nothing else
TINY = TransformerConfig(width=32, depth=2, heads=2, remat=True, scan=True)
TINY_TRAINING = replace(PAPER.cases[0].train, model=TINY, steps=4, batch_size=8, heldout_rows=8)
SMOKE = replace(
    PAPER,
    cases=(replace(PAPER.cases[0], train=TINY_TRAINING),),
    learn=replace(
        PAPER.learn,
        scorer=ScorerConfig(width=32, depth=1, heads=2),
        policy=PolicyConfig(width=32, heads=2, hidden=True),
        steps=3,
        batch_size=4,
        heldout_rows=4,
        eval_batch_size=8,
    ),
    budgets=(5,),
    control_steps=2,
    examples=8,
    run_dir="runs/table_variational_orders-paper-smoke",
)
# the empty grid under exact conditionals: nothing but the order can be wrong
EMPTY_GRID = replace(
    SUDOKU,
    task=Sudoku(max_clues=0),
    search=SearchConfig(proposals=1000, chains=16, sequences=128),
)
ORACLE = Config(
    cases=(EMPTY_GRID,),
    learn=learn_variational_order.Config(oracle=True),
    budgets=(4,),
    run_dir="runs/table_variational_orders-oracle",
)
PRESETS = {"default": Config(), "oracle": ORACLE, "paper": PAPER, "paper-smoke": SMOKE}


def run(config: Config) -> dict[str, list[PairedRow]]:
    """Train what is missing, compare, print; rows by task and budget."""
    tables, sampling = {}, SamplerConfig(temperature=config.learn.temperature)
    for case, _ in chosen_cases(config):  # refused before anything is trained
        for budget in config.budgets:
            learn_variational_order.resolve(replace(config.learn, task=case.task, budget=budget))
    for case, home in chosen_cases(config):
        denoiser, control = denoisers(config, case, home)
        by_prompt = config.learn.start.by_prompt and case.search.proposals > 0
        start = replace(config.learn.start, search=case.search, by_prompt=by_prompt)
        learn = replace(config.learn, task=case.task, start=start, denoiser=denoiser)
        for budget in config.budgets:
            title = f"{case.task.name}, at most {budget} denoiser calls"
            settings = replace(learn, budget=budget, run_dir=f"{home}/budget-{budget}")
            tables[title] = compare_seeds(
                config, learn_one, settings, sampling, title, baselines=control
            )
    if config.published:
        rows = tuple(row for row in VARIATIONAL_ORDERS.rows if row[0] in config.budgets)
        print_published(VARIATIONAL_ORDERS._replace(rows=rows))
    return tables


def learn_one(settings: learn_variational_order.Config) -> tuple[LearnedPolicy, Denoise]:
    """The policy of one training seed, and its denoiser."""
    learned = learn_variational_order.learn(settings)
    return learned.policy, learned.denoise


def denoisers(config: Config, case: Case, home: Path) -> tuple[str | None, Denoise]:
    """The run of the denoiser that orders start from (None: exact conditionals), and the denoiser of
    the baselines.
    """
    if config.learn.oracle:
        return None, exact_denoiser(case.task)
    start = control = trained_denoiser(case, home / "denoiser")
    if config.control_steps:
        optimizer, steps = config.learn.denoiser_optimizer, config.control_steps
        further = {"start": start, "optimizer": optimizer, "steps": steps}
        control = trained_denoiser(case, home / "control", **further)
    return start, load_denoiser(control, case.task).denoise


if __name__ == "__main__":
    cli.main(Config, run, __doc__, PRESETS)
