"""Train a denoiser from scratch: --task sudoku, chains, gsm8k or text8.

Writes a run directory with config.json, env.json, metrics.jsonl, checkpoints and training.png. The same
command resumes a run that was interrupted or killed, with the same weights as an uninterrupted one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from experiments import _cli as cli
from experiments._cli.console import print_once
from experiments._cli.training import (
    TrainingConfig,
    Updates,
    run_updates,
    training_run,
)
from mdm_jax import sharding
from mdm_jax.denoisers.base import Denoise, bind
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.diffusion import corruption
from mdm_jax.diffusion.objectives import Antithetic, AnyOrder, Complement, Continuous, Discrete
from mdm_jax.errors import check_range
from mdm_jax.evals import plots
from mdm_jax.evals.likelihood import Likelihood, heldout_likelihood, summary
from mdm_jax.runs.denoisers import weights_for
from mdm_jax.runs.directory import TOKENIZER
from mdm_jax.tasks.base import Batch
from mdm_jax.training.denoiser import compile_update, init_denoiser, shard_state
from mdm_jax.training.loop import Row, Update
from mdm_jax.training.losses import CanvasIds, TokenBatch, denoising_loss
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import TrainState, init_state

TIMES = {
    "uniform": corruption.uniform_times,
    "stratified": corruption.stratified_times,
    "antithetic": corruption.antithetic_times,
}


@dataclass(frozen=True, kw_only=True)
class Config(TrainingConfig):
    """Settings of a training run.

    Attributes:
      start: run directory of a denoiser of the same shape, whose averaged weights training starts from.
      batch_size: sequences in each update.
      micro_batches: slices of a batch whose gradients are accumulated.
      model: shape of the transformer.
      learned_positions: give the network learned embeddings of its positions, not distances alone.
      optimizer: AdamW, its learning rate and schedule.
      objective: which bound is trained on, with which masks.
      times: how mask rates are drawn over a batch.
      ema_decay: of the averaged weights, which are the ones evaluated and used.
      eval_every: updates between held-out bounds; the last update always has one.
      heldout_rows: sequences of the held-out bound, 8 masks each.
      shard_params: split parameters, average and optimiser over devices instead of copying them.
    """

    start: str | None = None
    batch_size: int = 128
    micro_batches: int = 1
    model: TransformerConfig = field(default_factory=TransformerConfig)
    learned_positions: bool = True
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    objective: AnyOrder | Continuous | Discrete | Complement | Antithetic = field(
        default_factory=AnyOrder
    )
    times: Literal["uniform", "stratified", "antithetic"] = "stratified"
    ema_decay: float = 0.99
    steps: int = 1500
    eval_every: int = 500
    save_every: int = 500
    heldout_rows: int = 256
    shard_params: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("batch_size", "micro_batches", "eval_every"):
            check_range(name, getattr(self, name), 1)
        check_range("heldout_rows", self.heldout_rows, 2)
        check_range("ema_decay", self.ema_decay, 0, below=1)


class Trained(NamedTuple):
    """A denoiser with its averaged weights, and its held-out likelihood."""

    denoise: Denoise
    likelihood: Likelihood


def resolve(config: Config) -> Config:
    """The config with everything that follows from other settings filled in."""
    task = cli.with_data_dir(config.task, config.data_dir)
    if config.learned_positions and config.model.max_length is None:
        config = replace(config, model=replace(config.model, max_length=task.length))
    return replace(config, task=task, run_dir=config.run_dir or f"runs/train_denoiser-{task.name}")


def run(config: Config) -> Likelihood:
    """Train to the end. Returns the held-out likelihood."""
    return train(config).likelihood


def train(config: Config) -> Trained:
    """Train to the end, from wherever the run directory is."""
    config = resolve(config)
    sharding.check_micro_batches(config.batch_size, config.micro_batches, jax.device_count())
    module, state, update = build(config, sharding.make_mesh())
    with training_run(config, "train_denoiser") as training:
        if hasattr(config.task, "tokenizer") and jax.process_index() == 0:
            config.task.tokenizer.save(str(training.directory / TOKENIZER))
        state = run_updates(config, training, state, updates_of(config, module, update))
        figure = plots.training_figure(training.log.rows())
        plots.save(figure, training.directory / "training.png")
    last = training.log.rows()[-1]
    likelihood = Likelihood(*(last[f"heldout_{name}"] for name in Likelihood._fields))
    told = summary(likelihood, config.task)
    print_once(f"{config.task.name}, {told}\nrun directory: {training.directory}")
    ema = jax.tree.map(jnp.asarray, sharding.to_host(state.ema))
    return Trained(bind(module, ema), likelihood)


def build(config: Config, mesh: jax.sharding.Mesh) -> tuple[Transformer, TrainState, Update]:
    """The network, its state on the devices, and the compiled update."""
    ids = config.task.vocabulary
    module = Transformer(config.model, ids.size)
    optimizer = make_optimizer(config.optimizer, config.steps)
    k_init = jax.random.fold_in(jax.random.key(config.seed), 0)
    state = init_denoiser(module, optimizer, k_init, config.task.length, ids.mask_id)
    if config.start is not None:
        state = init_state(weights_for(module, config.start, config.task), optimizer)
    state, shardings = shard_state(state, mesh, config.shard_params)
    loss = partial(
        denoising_loss,
        module=module,
        objective=config.objective,
        times=TIMES[config.times],
        ids=CanvasIds(ids.mask_id, ids.pad_id, config.task.gen_length),
    )
    update = compile_update(
        loss,
        optimizer,
        shardings,
        ema_decay=config.ema_decay,
        micro_batches=config.micro_batches,
    )
    return module, state, update


def updates_of(config: Config, module: Transformer, update: Update) -> Updates:
    """The updates, their batches, and the held-out likelihood now and then."""
    rows = sharding.by_row(sharding.make_mesh())

    def batch_at(index: int) -> TokenBatch:
        batch = config.task.train_batch(config.seed, index, config.batch_size)
        return sharding.shard(TokenBatch(*batch), rows)

    return Updates(
        title="training",
        update=update,
        batch_at=batch_at,
        key=jax.random.fold_in(jax.random.key(config.seed), 1),
        note=lambda row: f"loss {row['nelbo_per_token']:.3f}",
        evaluate=evaluation(config, module),
        eval_every=config.eval_every,
    )


def evaluation(config: Config, module: Transformer) -> Callable[[TrainState, Row], Row]:
    """Measures the held-out likelihood of a state, as columns heldout_*."""
    data = Batch(*(column[: config.heldout_rows] for column in config.task.heldout()))
    ids, window = config.task.vocabulary, config.task.gen_length

    def evaluate(state: TrainState, row: Row) -> Row:
        denoise = bind(module, sharding.to_host(state.ema))
        k_eval = jax.random.fold_in(jax.random.key(config.seed), 2)
        found = heldout_likelihood(k_eval, denoise, data, ids, window=window)
        return {f"heldout_{name}": value for name, value in found._asdict().items()}

    return evaluate


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
