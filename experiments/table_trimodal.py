"""The design study of one masked stream of text, images and speech, at small scale, on digits3.

Schedules of each modality, shares of the directions, anti-masking, batches with and without the SDE
rule, guidance, and sampling by direction: one thing differs at a time, over training seeds that share
their test prompts. Prints a table for each question with what is known of the published study
(arXiv:2602.21472) below it. Trainings and measurements that are finished are not made again; with --only
and --seeds several processes can share the work, and a last call without --only prints all tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from experiments import _cli as cli
from experiments import train_denoiser
from experiments._cli.console import print_once, print_table
from mdm_jax.denoisers.transformer import TransformerConfig
from mdm_jax.errors import MdmError, check_range, check_seed
from mdm_jax.evals.modal_study.measure import Rows, measured, rows_in
from mdm_jax.evals.modal_study.table import MARKDOWN, Table, cells, table_of, write_study
from mdm_jax.evals.modal_study.variants import Part, Setting, Training, parts
from mdm_jax.external_files import expand
from mdm_jax.runs.description import digest
from mdm_jax.runs.directory import TOKENIZER
from mdm_jax.runs.task_choice import with_data_dir
from mdm_jax.tasks.digits3 import Digits3
from mdm_jax.tasks.splits import MOST

ALL_UPDATES = 10**6  # the last update is always saved and scored


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the study.

    Attributes:
      task: codebooks and shares of the plain training; directions are set here.
      data_dir: recordings of speech; None: espeak-ng speaks.
      tokenizer_file: a tokenizer.json with the data, of another run; None: fit it here.
      only: the one question to answer; None: all.
      seeds: training seeds.
      steps: updates of the plain training; the others see as many tokens.
      train: the plain training; its task, steps, seed and run_dir are set here.
      examples: test prompts of each direction.
      run_dir: where a directory for each training, tables and figure are written.
    """

    task: cli.Fixed[Digits3] = field(default_factory=Digits3)
    data_dir: str | None = None
    tokenizer_file: str | None = None
    only: str | None = None
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    steps: int = 2000
    train: train_denoiser.Config = field(
        default_factory=lambda: train_denoiser.Config(
            batch_size=64,
            model=TransformerConfig(width=96, depth=4, grid_rope=True, modality_embedding=True),
            modality_weights=(1.0, 1.0, 1.0),
            eval_every=ALL_UPDATES,
            save_every=ALL_UPDATES,
            log_every=100,
        )
    )
    examples: int = 512
    run_dir: str = "runs/table_trimodal"

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)
        check_range("examples", self.examples, 1, MOST)
        if self.only not in (None, *self.parts):
            raise MdmError(f"only {self.only!r} is none of {', '.join(self.parts)}")
        if not self.seeds:
            raise MdmError("give at least one of --seeds")
        for seed in self.seeds:
            check_seed(seed, "seeds")
        check_range("train.batch_size", self.train.batch_size, 2)

    @property
    def parts(self) -> dict[str, Part]:
        """All questions."""
        return parts(self.train.batch_size, self.steps)


def run(config: Config) -> list[Table]:
    """Train and measure what is missing, print and write the tables."""
    home = expand(config.run_dir)
    config = replace(config, task=task_in(home, config))
    chosen = {name: part for name, part in config.parts.items() if config.only in (None, name)}
    tables = [
        table_of(name, part, answers(config, part, home), config.examples)
        for name, part in chosen.items()
    ]
    for table in tables:
        print_table(table.name, ("", *table.columns), cells(table))
        for line in table.published:
            print_once(f"published, {line}")
    told = (
        f"digits3: {len(config.seeds)} training seeds of {config.steps} updates of "
        f"{config.train.batch_size} sequences, {config.examples} prompts of each direction; mean and "
        "half of the 95 % interval"
    )
    write_study(tables, told, home / config.only if config.only else home)
    print_once(f"{told}: {home / (config.only or '') / MARKDOWN}")
    return tables


def task_in(home: Path, config: Config) -> Digits3:
    """The task with its data, which are fitted once and kept in the directory of the study."""
    path = expand(config.tokenizer_file or home / TOKENIZER)
    if not path.is_file():
        if config.tokenizer_file is not None:
            raise MdmError(f"there is no {path}")
        home.mkdir(parents=True, exist_ok=True)
        with_data_dir(config.task, config.data_dir).tokenizer.save(str(path))
    return replace(config.task, tokenizer_file=str(path))


def answers(config: Config, part: Part, home: Path) -> dict[str, list[Rows]]:
    """The rows of every seed, by directory of the training."""
    found = {}
    for training in part.trainings:
        found[training.directory] = [
            rows_of(
                config, training, part.settings, home / training.directory / f"seed-{seed}", seed
            )
            for seed in config.seeds
        ]
    return found


def rows_of(
    config: Config, training: Training, settings: Sequence[Setting], run: Path, seed: int
) -> Rows:
    """What one seed reached; it is trained unless it is finished."""
    asked = settings_of(config, training, run, seed)
    known_as = digest(replace(asked, run_dir=None, task=replace(asked.task, tokenizer_file=None)))
    if not rows_in(run, known_as):
        print_once(f"{training.directory}, seed {seed}")
        train_denoiser.train(asked)
    return measured(run, known_as, config.task, settings, config.examples)


def settings_of(config: Config, training: Training, run: Path, seed: int) -> train_denoiser.Config:
    """The training of one seed."""
    task = replace(config.task, **training.task)
    plain = replace(config.train, task=task, steps=config.steps, seed=seed, run_dir=str(run))
    return replace(plain, **training.settings)


PRESETS = {"default": Config()}

if __name__ == "__main__":
    cli.main(Config, run, __doc__, PRESETS)
