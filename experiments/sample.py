"""Print generations of a run, with the unmasking animated in a terminal.

python -m experiments.sample --run RUN policy:entropy-bound --policy.gamma 0.1 --count 3
"""

from dataclasses import dataclass, field

import jax

from experiments import cli
from experiments.animate import show_generation
from experiments.console import say
from experiments.evaluate import Sampling
from experiments.policies import resolve
from experiments.runs import load_run, read_task
from mdm_jax.policies import heuristic


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a few generations.

    Attributes:
      run: run directory of train_denoiser, quickstart or learn_order.
      task: where prompts come from; by default what the run was trained on.
      data_dir: where the task's files are, when not where training found them.
      policy: which positions next; policy:NAME on the command line.
      sampling: temperature, blocks, budget.
      split: train, heldout or test.
      first: number of the first prompt.
      count: how many prompts.
      seed: of the token draws and the policy.
    """

    run: str = cli.REQUIRED
    task: cli.OptionalTask = None
    data_dir: str | None = None
    policy: cli.AnyPolicy = field(default_factory=lambda: heuristic.TopConfidence(8))
    sampling: cli.Flat[Sampling] = field(default_factory=Sampling)
    split: str = "test"
    first: int = 0
    count: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.first < 0 or self.count < 1:
            raise ValueError(f"need first >= 0 and count >= 1, got {self.first} and {self.count}")


def run(config: Config) -> list[str]:
    """Generate, show, and return the texts."""
    task = cli.with_data_dir(config.task or read_task(config.run), config.data_dir)
    denoise, task, _ = load_run(config.run, task)
    policy = resolve(config.policy, config.run, denoise, task)
    examples = task.examples(config.split, config.first + config.count)
    key = jax.random.key(config.seed)
    texts = []
    for index in range(config.first, len(examples.canvases)):
        reference = jax.tree.map(lambda x, i=index: x[i], examples.references)
        generation = show_generation(
            jax.random.fold_in(key, index),
            task,
            examples.canvases[index],
            denoise,
            policy,
            config.sampling.config(task),
        )
        right = bool(task.verify(generation.canvas, reference))
        say(f"prompt {index}: {'right' if right else 'wrong'}, {generation.nfe} denoiser calls\n")
        texts.append(task.decode(generation.canvas))
    return texts


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
