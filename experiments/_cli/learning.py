"""What the learn_* experiments share: the denoiser, and the comparison with other policies."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

from experiments import train_denoiser
from experiments._cli.console import print_table, progress
from experiments._cli.fields import AnyTask
from experiments._cli.modalities import report_modalities
from experiments._cli.tables import frontier_cells, print_paired_rows
from mdm_jax.denoisers.base import Denoise
from mdm_jax.errors import MdmError, check_range
from mdm_jax.evals.evaluator import Evaluator
from mdm_jax.evals.matched import TUNING_PROMPTS, compare_at_equal_calls, comparison_in
from mdm_jax.evals.paired import PairedRow, save_table
from mdm_jax.evals.price_frontier import Frontiers, against_best, price_frontiers
from mdm_jax.external_files import expand
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.runs.denoisers import given_denoiser
from mdm_jax.runs.directory import DENOISER, DENOISER_IDENTITY
from mdm_jax.runs.identity import identity
from mdm_jax.runs.json_files import write_json
from mdm_jax.runs.published import Loading
from mdm_jax.runs.training import TrainingConfig, TrainingRun, training_run
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.checks import check_prompts
from mdm_jax.tasks.splits import MOST
from mdm_jax.tasks.sudoku import Sudoku


@dataclass(frozen=True, kw_only=True)
class LearningConfig(TrainingConfig):
    """Settings of learning an order or a policy for a denoiser.

    Attributes:
      denoiser: run directory of a trained denoiser, or of a published checkpoint; None: train one into
        RUN_DIR/denoiser.
      oracle: exact conditionals instead of a trained denoiser, where the task has them.
      train: settings of that training; its task, data_dir, run_dir and seed are taken from here.
      temperature: of the token draws.
      policy_temperature: of the learned policy where it is evaluated; 0 takes the most probable set of
        positions.
      examples: prompts that every policy completes.
      eval_batch_size: of generation; None: as many canvases as `canvases_at_once`, at most 512.
    """

    # settings that may differ when a run is resumed: nothing is learned from them
    evaluation_only: ClassVar = ("examples", "eval_batch_size", "policy_temperature")
    task: AnyTask = field(default_factory=Sudoku)
    denoiser: str | None = None
    oracle: bool = False
    train: train_denoiser.Config = field(
        default_factory=lambda: train_denoiser.Config(
            steps=1600, batch_size=64, save_every=800, eval_every=1600
        )
    )
    temperature: float = 1.0
    policy_temperature: float
    examples: int = 1024
    eval_batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("examples", self.examples, 1, MOST)
        check_range("eval_batch_size", self.eval_batch_size, 1)
        for name in ("temperature", "policy_temperature"):
            check_range(name, getattr(self, name), 0)
        if self.oracle and self.denoiser is not None:
            raise MdmError("give --oracle or --denoiser, not both")


@contextmanager
def learning_run(
    config: LearningConfig,
    experiment: str,
    denoise: Denoise | None = None,
    given: Mapping[str, Any] | None = None,
) -> Iterator[tuple[TrainingRun, Denoise]]:
    """The run directory and the denoiser, which is trained inside unless the config names one.

    A denoiser that cannot be loaded, and prompts that the comparison cannot have, are refused before
    the directory is created.

    Args:
      denoise: the denoiser that the config names, where it is loaded already.
      given: what else is learned from; see `training_run`.
    """
    for split, count in (("test", config.examples), ("heldout", TUNING_PROMPTS)):
        check_prompts(config.task, split, min(count, config.examples))
    denoise = (
        given_denoiser(config.task, config.denoiser, config.oracle) if denoise is None else denoise
    )
    given = dict(given or {})
    if config.denoiser is not None:
        given[DENOISER_IDENTITY] = identity(config.denoiser, denoise, Loading())
    with training_run(config, experiment, config.evaluation_only, given) as training:
        yield training, train_inside(config) if denoise is None else denoise


def train_inside(config: LearningConfig) -> Denoise:
    """A denoiser trained in its own directory inside the run directory."""
    home = f"{config.run_dir}/{DENOISER}"
    settings = replace(config.train, task=config.task, run_dir=home, seed=config.seed)
    return train_denoiser.train(settings).denoise


def compare(
    config: LearningConfig,
    learned: Sequence[tuple[LearnedPolicy, Denoise]],
    baselines: Denoise,
    sampling: SamplerConfig,
    title: str,
) -> list[PairedRow]:
    """Learned policies and the heuristic baselines at as many denoiser calls; printed and kept.

    Args:
      learned: policies of several training seeds, each with its denoiser.
      baselines: the denoiser of the baselines.
    """
    with comparison(config, baselines, sampling) as evaluator:
        rows = compare_at_equal_calls(evaluator, learned, config.seed, progress)
    save_table(rows, expand(config.run_dir) / "table.json")
    print_paired_rows(rows, f"{title}: {config.examples} prompts")
    return rows


PRICE_COLUMNS = ("price", "accuracy %", "95 % interval", "calls", "best baseline in no more calls")


def compare_prices(
    config: LearningConfig,
    policy: AdaptivePolicy,
    denoise: Denoise,
    sampling: SamplerConfig,
    prices: tuple[float, float],
) -> Frontiers:
    """A policy between two prices and densely swept heuristics; printed and kept."""
    with comparison(config, denoise, sampling) as evaluator:
        (found,) = price_frontiers(evaluator, [policy], prices, progress)
        report_modalities(evaluator, found, expand(config.run_dir))
    title, columns = f"{config.task.name}: {config.examples} prompts", ("learned is better by", "P")
    print_table(title, (*PRICE_COLUMNS, *columns), frontier_cells(against_best(found)), texts=0)
    write_json(expand(config.run_dir) / "table.json", [asdict(row) for row in found.rows])
    return found


def comparison(
    config: LearningConfig, denoise: Denoise, sampling: SamplerConfig
) -> AbstractContextManager[Evaluator]:
    """The evaluation of the config's comparison, in its run directory.

    Args:
      denoise: what the baselines use.
    """
    return comparison_in(
        expand(config.run_dir),
        config.task,
        denoise,
        sampling,
        examples=config.examples,
        batch_size=config.eval_batch_size,
        seed=config.seed,
    )
