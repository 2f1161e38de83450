"""Train a denoiser from scratch: --task sudoku, chains, gsm8k, text8 or digits3.

Writes a run directory with config.json, env.json, metrics.jsonl, checkpoints and training.png. The same
command resumes a run that was interrupted or killed, with the same weights as an uninterrupted one.
"""

from dataclasses import dataclass, field, replace

import jax

from experiments import _cli as cli
from mdm_jax import sharding
from mdm_jax.denoisers.transformer import TransformerConfig
from mdm_jax.diffusion.genmd4 import Genmd4
from mdm_jax.diffusion.modal import Modal
from mdm_jax.diffusion.objectives import Antithetic, AnyOrder, Complement, Continuous, Discrete
from mdm_jax.errors import MdmError, check_range
from mdm_jax.evals import plots
from mdm_jax.evals.likelihood import Likelihood, summary
from mdm_jax.runs.directory import TOKENIZER
from mdm_jax.runs.identity import start_identity
from mdm_jax.runs.task_choice import with_data_dir
from mdm_jax.runs.training import TrainingConfig, run_updates, training_run
from mdm_jax.runs.trainings.denoiser import DenoiserTraining, Times, Trained
from mdm_jax.runs.trainings.transfer import Base, Scaling, scaled_settings, scaled_shape
from mdm_jax.tasks.base import full_name
from mdm_jax.tasks.checks import check_clean
from mdm_jax.tasks.splits import MOST
from mdm_jax.tasks.sudoku import Sudoku
from mdm_jax.training.optimizers import OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class Config(TrainingConfig):
    """Settings of a training run.

    Attributes:
      start: run directory of a denoiser of the same shape, whose averaged weights training starts from.
      batch_size: sequences in each update.
      scaling: take over settings that were tuned on another training, `base`: sde for its batch and
        tokens, completed-p for its width and depth as well.
      base: the training that they were tuned on.
      micro_batches: slices of a batch whose gradients are accumulated.
      pack: put several sequences without their PAD into rows of so many positions, each attending to
        itself alone; the same loss at less cost. None: a row for each.
      model: shape of the transformer.
      learned_positions: give the network learned embeddings of its positions, not distances alone.
      optimizer: AdamW, its learning rate and schedule.
      objective: which bound is trained on, with which masks.
      modality_weights: of the loss per token of each modality, where a task has several; by default
        every token counts alike.
      times: how mask rates are drawn over a batch.
      ema_decay: of the averaged weights, which are the ones evaluated and used.
      eval_every: updates between held-out bounds; the last update always has one.
      heldout_rows: sequences of the held-out bound, 8 masks each.
      shard_params: split parameters, average and optimiser over devices instead of copying them.
    """

    task: cli.AnyTask = field(default_factory=Sudoku)
    start: str | None = None
    batch_size: int = 128
    scaling: Scaling = "none"
    base: Base = field(default_factory=Base)
    micro_batches: int = 1
    pack: int | None = None
    model: TransformerConfig = field(default_factory=TransformerConfig)
    learned_positions: bool = True
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    objective: AnyOrder | Continuous | Discrete | Complement | Antithetic | Modal | Genmd4 = field(
        default_factory=AnyOrder
    )
    modality_weights: tuple[float, ...] | None = None
    times: Times = "stratified"
    ema_decay: float = 0.99
    steps: int = 1500
    eval_every: int = 500
    save_every: int = 500
    heldout_rows: int = 256
    shard_params: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("batch_size", "micro_batches"):
            check_range(name, getattr(self, name), 1, MOST)
        check_range("eval_every", self.eval_every, 1)
        check_range("heldout_rows", self.heldout_rows, 2, MOST)
        check_range("ema_decay", self.ema_decay, 0, below=1)
        self.base.check(self.scaling)
        if self.pack is not None:
            self._check_packed()

    def _check_packed(self) -> None:
        """Refuse what sequences cannot be packed with."""
        if self.micro_batches > 1:
            raise MdmError("pack puts sequences of a whole batch together: leave out micro_batches")
        if isinstance(self.objective, Genmd4):
            raise MdmError("pack is not there for rates that are learned: choose another objective")
        if self.model.attention == "scale-invariant":
            raise MdmError("pack changes distances in a row: choose another --model.attention")


def resolve(config: Config) -> Config:
    """The config with everything that follows from other settings filled in."""
    task = with_data_dir(config.task, config.data_dir)
    if config.learned_positions and config.model.max_length is None:
        config = replace(config, model=replace(config.model, max_length=task.length))
    model = scaled_shape(config.scaling, config.base, config.model)
    name = config.run_dir or f"runs/train_denoiser-{full_name(task)}"
    return replace(config, task=task, run_dir=name, model=model)


def run(config: Config) -> Likelihood:
    """Train to the end. Returns the held-out likelihood."""
    return train(config).likelihood


def train(config: Config) -> Trained:
    """Train to the end, from wherever the run directory is."""
    config = resolve(config)
    check_range("pack", config.pack, config.task.length, MOST)
    sharding.check_micro_batches(config.batch_size, config.micro_batches, jax.device_count())
    check_clean(config.task)
    settings = scaled_settings(
        config.scaling,
        config.base,
        config.optimizer,
        config.ema_decay,
        batch_size=config.batch_size,
        tokens=config.task.length * config.batch_size * config.steps,
    )
    training = cli.select(DenoiserTraining, config, **settings._asdict())
    state, update = training.compile()
    given = None if config.start is None else start_identity(sharding.to_host(state.params))
    with training_run(config, "train_denoiser", given=given) as home:
        if hasattr(config.task, "tokenizer") and jax.process_index() == 0:
            config.task.tokenizer.save(str(home.directory / TOKENIZER))
        state = run_updates(config, home, state, training.updates(update), cli.REPORTER)
        figure = plots.training_figure(home.log.rows())
        plots.save(figure, home.directory / "training.png")
    trained = training.trained(state, home.log.rows()[-1])
    told = summary(trained.likelihood, config.task)
    cli.REPORTER.say(f"{config.task.name}, {told}\nrun directory: {home.directory}")
    return trained


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
