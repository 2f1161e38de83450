"""Train on short canvases, measure the held-out bound on longer ones, for each kind of attention.

  python -m experiments.longer_canvases --task text8 --data_dir DIR --task.length 64

Every kind (--attention softmax sigmoid scale-invariant) and seed is trained in a directory of its own,
without learned positions; then the bound is measured on canvases --times 1 2 4 as long, of the same text.
The same command resumes; finished runs are not trained again. Writes table.json.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from experiments import _cli as cli
from experiments import train_denoiser
from experiments._cli.console import print_table, progress
from mdm_jax.denoisers.attention_kinds import AttentionKind
from mdm_jax.denoisers.base import Denoise
from mdm_jax.errors import MdmError, check_range, check_seed
from mdm_jax.evals.likelihood import heldout_likelihood
from mdm_jax.external_files import expand
from mdm_jax.keys import Stream, stream
from mdm_jax.runs.json_files import write_json
from mdm_jax.runs.task_choice import with_data_dir
from mdm_jax.tasks.base import Batch, Task
from mdm_jax.tasks.checks import check_clean
from mdm_jax.tasks.markov_chain import MarkovChain


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the table.

    Attributes:
      task: text8 or markov_chain, whose length is that of training.
      data_dir: where the task's files are, for tasks that need some.
      attention: kinds that are compared.
      times: lengths that are measured, in lengths of training.
      tokens: held-out positions that each length is measured on, 8 masks each.
      seeds: of weights, batches and masks of the trainings.
      train: settings of every training; its task, data_dir, run_dir, seed and attention are set here.
      run_dir: where a directory for each run, and the table, are written.
    """

    task: cli.AnyTask = field(default_factory=lambda: MarkovChain(length=32))
    data_dir: str | None = None
    attention: tuple[AttentionKind, ...] = ("softmax", "sigmoid", "scale-invariant")
    times: tuple[int, ...] = (1, 2, 4)
    tokens: int = 16_384
    seeds: tuple[int, ...] = (0,)
    train: train_denoiser.Config = field(
        default_factory=lambda: train_denoiser.Config(
            learned_positions=False, batch_size=32, eval_every=10**6, save_every=1000
        )
    )
    run_dir: str = "runs/longer_canvases"

    def __post_init__(self) -> None:
        for name in ("attention", "times", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise MdmError(f"give --{name}, each once")
        for factor in self.times:
            check_range("times", factor, 1)
        for seed in self.seeds:
            check_seed(seed, "seeds")
        if self.train.learned_positions or self.train.model.max_length is not None:
            raise MdmError(
                "learned positions have none beyond the training length: leave out "
                "--train.learned_positions and --train.model.max_length"
            )


def run(config: Config) -> list[dict[str, Any]]:
    """Train, measure, print; the rows of the table."""
    tasks = longer(config)
    data = [rows_of(task, config.tokens) for task in tasks]
    trained = {
        (kind, seed): train_denoiser.train(training(config, tasks[0], kind, seed)).denoise
        for kind in config.attention
        for seed in config.seeds
    }
    found: dict[AttentionKind, list[list[float]]] = {kind: [] for kind in config.attention}
    with progress("measuring", len(trained) * len(tasks)) as advance:
        for (kind, seed), denoise in trained.items():
            bounds = []
            for task, rows in zip(tasks, data, strict=True):
                bounds.append(bound(denoise, task, rows, seed))
                advance(1, f"{kind}, length {task.length}")
            found[kind].append(bounds)
    return report(config, tasks, found)


def longer(config: Config) -> list[Task]:
    """The task at each length, that of training first.

    Raises:
      MdmError: its length is no setting.
    """
    task = with_data_dir(config.task, config.data_dir)
    if not {one.name for one in fields(task)} >= {"length"}:
        raise MdmError(f"task {task.name} has one length only: take text8 or markov_chain")
    tasks = [task, *(replace(task, length=n * task.length) for n in sorted(config.times))]
    for each in tasks:
        check_clean(each)
    return tasks if min(config.times) > 1 else tasks[1:]


def rows_of(task: Task, tokens: int) -> Batch:
    """Held-out sequences of about so many positions."""
    data, count = task.heldout(), max(tokens // task.length, 2)
    return Batch(*(column[:count] for column in data))


def training(config: Config, task: Task, kind: AttentionKind, seed: int) -> train_denoiser.Config:
    """Settings of the training of one kind."""
    return replace(
        config.train,
        task=task,
        model=replace(config.train.model, attention=kind),
        seed=seed,
        run_dir=str(expand(config.run_dir) / f"{kind}-seed-{seed}"),
    )


def bound(denoise: Denoise, task: Task, rows: Batch, seed: int) -> float:
    """Nats per token."""
    k_bound = stream(seed, Stream.DENOISER_BOUND)
    return heldout_likelihood(
        k_bound, denoise, rows, task.vocabulary, window=task.gen_length
    ).nelbo_per_token


def report(
    config: Config, tasks: list[Task], found: dict[AttentionKind, list[list[float]]]
) -> list[dict[str, Any]]:
    """Print means over seeds with their range, and keep them."""
    table, cells = [], []
    for kind, by_seed in found.items():
        values = np.array(by_seed)
        half = (values.max(axis=0) - values.min(axis=0)) / 2
        mean = values.mean(axis=0)
        cells.append((kind, *(f"{m:.3f} +- {h:.3f}" for m, h in zip(mean, half, strict=True))))
        rows = {str(t.length): list(x) for t, x in zip(tasks, values.T, strict=True)}
        table.append({"attention": kind, "nats_per_token": rows})
    title = (
        f"{tasks[0].name}, trained at length {tasks[0].length}: held-out bound, nats per token, "
        f"mean and half the range over {len(config.seeds)} seeds"
    )
    print_table(title, ("attention", *(f"length {t.length}" for t in tasks)), cells)
    write_json(expand(config.run_dir) / "table.json", table)
    return table


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
