"""The evaluation of a run's denoiser on a split of a task: checked first, then opened on disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from mdm_jax.denoisers.base import Denoise
from mdm_jax.evals.directory import open_store
from mdm_jax.evals.evaluator import Evaluator
from mdm_jax.evals.generate import Batching, check_request
from mdm_jax.external_files import expand
from mdm_jax.keys import Stream, stream
from mdm_jax.runs.denoisers import load_denoiser
from mdm_jax.runs.description import digest
from mdm_jax.runs.identity import identity, results_home
from mdm_jax.runs.published import Loading
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Examples, Task, full_name


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What is evaluated.

    Attributes:
      run: run directory, or directory of a published checkpoint.
      task: what it is evaluated on.
      split: train, heldout or test.
      examples: how many prompts; None: the split's own number.
      sampling: settings of the sampler, of any task.
      batching: prompts completed at once.
      loading: how a published checkpoint is put on devices.
      seed: of the token draws and the policy.
      out_dir: where everything is written; None: RUN/EXPERIMENT-TASK-SPLIT-SEED, or
        runs/NAME/EXPERIMENT-... for a published checkpoint.
    """

    run: str
    task: Any  # a `Task`, whose files `load_evaluation` reads first
    split: str
    examples: int | None
    sampling: SamplerConfig
    batching: Batching
    loading: Loading
    seed: int
    out_dir: str | None


class LoadedEvaluation(NamedTuple):
    """A denoiser with its number of updates, and the prompts of an evaluation; nothing is written."""

    config: EvaluationConfig
    denoise: Denoise
    task: Task
    step: int
    examples: Examples
    sampling: SamplerConfig

    @contextmanager
    def open(self, experiment: str) -> Iterator[Evaluator]:
        """The evaluation in its directory, which is created or must belong to the same settings.

        Args:
          experiment: name of the entry point.
        """
        config, task = self.config, self.task
        name = f"{experiment}-{full_name(task)}-{config.split}-{config.seed}"
        directory = expand(config.out_dir or results_home(config.run) / name)
        weights = {"step": self.step} | identity(config.run, self.denoise, config.loading)
        key = stream(config.seed, Stream.GENERATION)
        with open_store(directory, experiment, task, config.split, config.seed, weights) as store:
            yield Evaluator(
                task,
                self.examples,
                self.denoise,
                self.sampling,
                store,
                key,
                *config.batching,
                denoiser=digest(weights),
            )


def load_evaluation(config: EvaluationConfig) -> LoadedEvaluation:
    """The denoiser and the prompts. What cannot be completed is refused before anything is loaded.

    Raises:
      MdmError: the prompts do not fit the settings or the devices, or there is no such denoiser.
    """
    examples = config.task.examples(config.split, config.examples)
    sampling = config.sampling.for_task(config.task)
    check_request(examples.canvases, sampling, config.batching)
    loaded = load_denoiser(config.run, config.task, config.loading)
    return LoadedEvaluation(config, *loaded, examples, sampling)
