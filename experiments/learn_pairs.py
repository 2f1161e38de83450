"""Learn which positions depend on each other, and generate with DEMASK's rule.

A small head on the denoiser's hidden states predicts the dependence of every pair; a call reveals
positions by falling confidence while their predicted dependences fit an allowance (arXiv:2604.02560).
Labels are exact where the task has exact conditionals; elsewhere, or with --label_calls, they are what
further denoiser calls say. Afterwards the head, the denoiser's attention and exact dependences are
compared at several allowances. Writes a run directory that policy:learned reads. The same command resumes
a run that was interrupted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import ClassVar

from experiments import _cli as cli
from experiments._cli.console import print_once, progress
from experiments._cli.learning import LearningConfig, comparison, learning_run
from experiments._cli.tables import print_rows
from mdm_jax.denoisers.base import Denoise
from mdm_jax.denoisers.exact_dependence import WithExactDependence
from mdm_jax.errors import MdmError, check_range
from mdm_jax.evals import plots
from mdm_jax.evals.matched import with_denoiser
from mdm_jax.evals.score import Row
from mdm_jax.external_files import expand
from mdm_jax.policies.base import Policy
from mdm_jax.policies.networks.pair_network import PairConfig
from mdm_jax.policies.pairwise.demask import Demask
from mdm_jax.policies.pairwise.predicted import PredictedPairs
from mdm_jax.runs.json_files import write_json
from mdm_jax.runs.task_choice import with_data_dir
from mdm_jax.runs.trainings.pair_head import PairTraining
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import HasOracle, full_name
from mdm_jax.tasks.checks import check_clean
from mdm_jax.tasks.splits import MOST
from mdm_jax.training.optimizers import OptimizerConfig

LABEL_CALLS = 4


@dataclass(frozen=True, kw_only=True)
class Config(LearningConfig):
    """Settings of learning dependence.

    Attributes:
      network: shape of the head.
      label_calls: denoiser calls for the labels of each sequence; 0: exact labels; None: exact ones where
        the task has them, else 4.
      batch_size: sequences in each update.
      optimizer: of the head.
      ema_decay: of its averaged weights.
      allowance: sum of dependences that one call may reveal, as policy:learned takes it from the run.
      allowances: those of the comparison.
    """

    evaluation_only: ClassVar = (*LearningConfig.evaluation_only, "temperature", "allowances")
    steps: int = 1000
    save_every: int = 500
    policy_temperature: cli.Fixed[float] = 0.0
    oracle: cli.Fixed[bool] = False
    network: PairConfig = field(default_factory=PairConfig)
    label_calls: int | None = None
    batch_size: int = 64
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    ema_decay: float = 0.99
    allowance: float = 0.2
    allowances: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("label_calls", self.label_calls, 0)
        check_range("batch_size", self.batch_size, 1, MOST)
        check_range("ema_decay", self.ema_decay, 0, below=1)
        for allowance in (self.allowance, *self.allowances):
            Demask(allowance)


PRESETS = {"default": Config()}


def resolve(config: Config) -> Config:
    """The config with everything that follows from other settings filled in."""
    task = with_data_dir(config.task, config.data_dir)
    calls, exact = config.label_calls, isinstance(task, HasOracle)
    if calls == 0 and not exact:
        raise MdmError(f"task {task.name} has no exact conditionals: give --label_calls")
    calls = (0 if exact else LABEL_CALLS) if calls is None else calls
    name = config.run_dir or f"runs/learn_pairs-{full_name(task)}"
    return replace(config, task=task, run_dir=name, label_calls=calls)


def run(config: Config) -> list[Row]:
    """Learn, compare, draw."""
    config = resolve(config)
    policy, denoise = learn(config)
    rows = compare(config, policy, denoise)
    print_rows(rows, f"{config.task.name}: {config.examples} prompts")
    directory = expand(config.run_dir)
    write_json(directory / "table.json", [asdict(row) for row in rows])
    if rows:
        plots.save(plots.frontier_figure(rows), directory / "frontier.png")
    print_once(f"table, figure and policy: {config.run_dir}")
    return rows


def learn(config: Config) -> tuple[PredictedPairs, Denoise]:
    """DEMASK with the learned head, and the denoiser; resumes a run."""
    config = resolve(config)
    check_clean(config.task)
    with learning_run(config, "learn_pairs") as (home, denoise):
        training = cli.select(PairTraining, config, denoise=denoise)
        policy = training.train(config, home, cli.REPORTER)
    print_once(f"{training.calls:,} denoiser calls for {config.steps} updates")
    return policy, denoise


def compare(config: Config, policy: PredictedPairs, denoise: Denoise) -> list[Row]:
    """Each source of dependences at every allowance, on the same prompts."""
    rows = []
    with comparison(config, denoise, SamplerConfig(temperature=config.temperature)) as evaluator:
        sources = list(_sources(config, policy, denoise))
        with progress("comparing", len(sources)) as advance:
            for name, own, policies in sources if config.allowances else ():
                for outcome in with_denoiser(evaluator, own).sweep(policies):
                    rows.append(replace(outcome.row, policy=f"Demask, {name}"))
                advance(1, name)
    return rows


def _sources(
    config: Config, policy: PredictedPairs, denoise: Denoise
) -> Iterator[tuple[str, Denoise, Sequence[Policy]]]:
    """The head, attention and exact dependences, where there are any: denoiser and policies."""
    rules = [Demask(allowance) for allowance in config.allowances]
    yield "head", denoise, [replace(policy, rule=rule) for rule in rules]
    if hasattr(getattr(denoise, "module", None), "mean_attention"):
        yield "attention", denoise, rules
    if isinstance(config.task, HasOracle):
        yield "exact", WithExactDependence(denoise, config.task.oracle()), rules


if __name__ == "__main__":
    cli.main(Config, run, __doc__, PRESETS)
