"""Generative perplexity against entropy along a sweep of the token temperature, for one policy.

  python -m experiments.generative_frontier --run RUN --temperatures 0.5 0.7 1 policy:top-confidence

All temperatures run as one compiled call. One temperature says little: low perplexity is bought with low
entropy, so compare policies at equal entropy (arXiv:2604.02718). Perplexity is that of a reference
denoiser (--reference), by its any-order bound; entropy is that of the sampler. Writes samples.jsonl,
generative.json and generative.png, in which all policies evaluated in the same directory are drawn.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from experiments import _cli as cli
from experiments._cli.console import print_once, print_table
from mdm_jax.errors import check_range, check_seed
from mdm_jax.evals import plots
from mdm_jax.evals.generate import Batching
from mdm_jax.evals.generative import (
    GenerativePoint,
    Reference,
    check_generative,
    generative_frontier,
)
from mdm_jax.evals.labels import describe_policy, label_of
from mdm_jax.evals.of_run import EvaluationConfig, load_evaluation
from mdm_jax.evals.score import Row
from mdm_jax.keys import Stream, stream
from mdm_jax.policies import heuristics
from mdm_jax.policies.base import Policy
from mdm_jax.runs.config import read_task
from mdm_jax.runs.denoisers import load_denoiser
from mdm_jax.runs.json_files import read_json, write_json
from mdm_jax.runs.policy_specs import resolve
from mdm_jax.runs.published import Loading
from mdm_jax.runs.task_choice import with_data_dir
from mdm_jax.sampling.config import SamplerConfig

COLUMNS = ("temperature", "accuracy %", "calls", "perplexity", "entropy", "of tokens")
CURVES = "generative.json"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a sweep over temperatures.

    Attributes:
      run: run directory of a training (train_denoiser, quickstart, learn_*), or of a published
        checkpoint.
      task: what to evaluate on; by default what the run was trained on.
      data_dir: where the task's files are, when not where training found them.
      policy: which positions next; policy:NAME on the command line. One that only reveals.
      temperatures: of the token draws, in the place of --temperature.
      reference: run directory or published checkpoint that generations are scored by; None: the run.
      masks: of each generation, for the reference's bound.
      sampling: blocks, budget; the temperature is swept.
      loading: how a published checkpoint is put on devices.
      split: train, heldout or test.
      examples: how many prompts; None: the split's own number.
      batch_size: prompts completed at once, at all temperatures.
      seed: of the token draws, the policy and the masks.
      out_dir: where everything is written; None: RUN/generative-TASK-SPLIT-SEED.
    """

    run: cli.RunDir = cli.REQUIRED
    task: cli.OptionalTask = None
    data_dir: str | None = None
    policy: cli.AnyPolicy = field(default_factory=lambda: heuristics.TopConfidence(8))
    temperatures: tuple[float, ...] = (0.3, 0.5, 0.7, 0.85, 1.0, 1.2)
    reference: str | None = None
    masks: int = 32
    sampling: cli.Flat[SamplerConfig] = field(
        default_factory=lambda: SamplerConfig(temperature=1.0)
    )
    loading: cli.Flat[Loading] = field(default_factory=Loading)
    split: str = "test"
    examples: int | None = None
    batch_size: int = 64
    seed: int = 0
    out_dir: str | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_range("masks", self.masks, 1)
        check_range("temperature", self.sampling.temperature, 1, 1)


def run(config: Config) -> list[GenerativePoint]:
    """Sweep, print, draw."""
    task = with_data_dir(config.task or read_task(config.run), config.data_dir)
    batching = Batching(config.batch_size)
    loaded = load_evaluation(cli.select(EvaluationConfig, config, task=task, batching=batching))
    policy = resolve(config.policy, config.run, loaded.denoise, loaded.task)
    check_generative(policy, config.temperatures, loaded.sampling)
    scorer = loaded.denoise
    if config.reference is not None:
        scorer = load_denoiser(config.reference, task, config.loading).denoise
    reference = Reference(scorer, stream(config.seed, Stream.LIKELIHOOD), config.masks)
    with loaded.open("generative") as evaluator:
        points = generative_frontier(evaluator, policy, config.temperatures, reference)
    title = f"{type(policy).__name__}: {task.name}, {config.split} split, {config.run}"
    print_table(title, COLUMNS, [_cells(point) for point in points], texts=0)
    write(points, curve_name(config, policy), evaluator.store.path)
    return points


def curve_name(config: Config, policy: Policy) -> str:
    """The policy with its knobs, and the reference where one was given."""
    name = label_of(type(policy).__name__, describe_policy(policy))
    return name if config.reference is None else f"{name}, by {Path(config.reference).name}"


def _cells(point: GenerativePoint) -> tuple[str, ...]:
    half = (point.perplexity_high - point.perplexity_low) / 2
    spread = (point.entropy_high - point.entropy_low) / 2
    return (
        f"{point.temperature:g}",
        f"{100 * point.row.accuracy:.1f}",
        f"{point.row.nfe:.2f}",
        f"{point.perplexity:.3f} ±{half:.3f}",
        f"{point.entropy:.3f} ±{spread:.3f}",
        f"{point.token_entropy:.3f}",
    )


def write(points: list[GenerativePoint], name: str, store: Path) -> None:
    """The points of all policies of a directory as JSON and as a figure."""
    directory = store.parent
    path = directory / CURVES
    curves: dict[str, list[Any]] = read_json(path) if path.is_file() else {}
    curves[name] = [point._asdict() | {"row": asdict(point.row)} for point in points]
    write_json(path, curves)
    read = {label: [_point(entry) for entry in entries] for label, entries in curves.items()}
    plots.save(plots.generative_figure(read), directory / "generative.png")
    print_once(f"figure: {directory / 'generative.png'}")


def _point(entry: dict[str, Any]) -> GenerativePoint:
    return GenerativePoint(**entry | {"row": Row(**entry["row"])})


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
