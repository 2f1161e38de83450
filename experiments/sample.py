"""Print generations of a denoiser, with the unmasking animated in a terminal.

python -m experiments.sample --run RUN policy:entropy-bound --policy.gamma 0.1 --count 3
python -m experiments.sample --denoiser DIR --prompt "How many days has a leap year?" --block_length 32
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import jax

from experiments import _cli as cli
from experiments._cli.animation import show_replay
from experiments._cli.console import print_once
from mdm_jax.errors import MdmError, check_range, check_seed
from mdm_jax.evals.replay import generate_replay
from mdm_jax.evals.score import take
from mdm_jax.keys import Stream, stream
from mdm_jax.policies import heuristics
from mdm_jax.runs.config import read_task
from mdm_jax.runs.denoisers import load_denoiser
from mdm_jax.runs.policy_specs import resolve
from mdm_jax.runs.published import Loading
from mdm_jax.runs.task_choice import with_data_dir
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import HasMedia, Task, full_name
from mdm_jax.tasks.prompted import FreePrompt


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a few generations.

    Attributes:
      run: run directory of a training (train_denoiser, quickstart, learn_*), or of a published
        checkpoint.
      prompt: what to ask a published checkpoint, in place of a task's prompts.
      task: where prompts come from; by default what the run was trained on.
      data_dir: where the task's files are, when not where training found them.
      policy: which positions next; policy:NAME on the command line.
      sampling: temperature, blocks, budget.
      loading: how a published checkpoint is put on devices.
      split: train, heldout or test.
      first: number of the first prompt.
      count: how many prompts.
      media_dir: where images (PNG) and speech (WAV, and its spectrogram) are written, of tasks with some.
      seed: of the token draws and the policy.
    """

    sampler_flags: ClassVar[bool] = True  # LLaDA's and Dream's are understood too
    run: cli.RunDir = cli.REQUIRED
    prompt: str | None = None
    task: cli.OptionalTask = None
    data_dir: str | None = None
    policy: cli.AnyPolicy = field(default_factory=lambda: heuristics.TopConfidence(8))
    sampling: cli.Flat[SamplerConfig] = field(default_factory=SamplerConfig)
    loading: cli.Flat[Loading] = field(default_factory=Loading)
    split: str = "test"
    first: int = 0
    count: int = 3
    media_dir: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("first", self.first, 0)
        check_range("count", self.count, 1)
        check_seed(self.seed)


def run(config: Config) -> list[str]:
    """Generate, show, and return the texts."""
    task = task_of(config)
    if config.media_dir is not None and not isinstance(task, HasMedia):
        raise MdmError(f"task {task.name} has neither images nor speech: leave out --media_dir")
    examples = task.examples(config.split, config.first + config.count)
    settings = config.sampling.for_task(task)
    denoise, task, _ = load_denoiser(config.run, task, config.loading)
    policy = resolve(config.policy, config.run, denoise, task)
    key = stream(config.seed, Stream.GENERATION)
    texts = []
    for index in range(config.first, len(examples.canvases)):
        reference = take(examples.references, index)
        k_row, canvas = jax.random.fold_in(key, index), examples.canvases[index]
        replay = generate_replay(k_row, task, canvas, denoise, policy, settings)
        show_replay(replay, type(policy).__name__)
        judgement = verdict(task, replay.rollout.canvas, reference)
        print_once(f"prompt {index}: {judgement}{replay.rollout.nfe} denoiser calls\n")
        texts.append(task.decode(replay.rollout.canvas))
        if config.media_dir is not None:
            stem = f"{full_name(task)}-{config.split}-{index}"
            for path in task.save_media(replay.rollout.canvas, config.media_dir, stem):
                print_once(path)
    return texts


def task_of(config: Config) -> Task:
    """The task, or the one prompt that was given.

    Raises:
      MdmError: a prompt for a denoiser that was trained on a task.
    """
    task = with_data_dir(config.task or read_task(config.run), config.data_dir)
    if config.prompt is None:
        return task
    if not isinstance(task, FreePrompt):
        raise MdmError(f"--prompt is only for published checkpoints, not for task {task.name}")
    return replace(task, question=config.prompt)


def verdict(task: Task, canvas: Any, reference: Any) -> str:
    """ "right, " or "wrong, " where the answer can be verified, else nothing."""
    if isinstance(task, FreePrompt) or not getattr(task, "can_verify", True):
        return ""
    return "right, " if task.verify(canvas, reference) else "wrong, "


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
