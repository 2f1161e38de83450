"""Train a denoiser from scratch: --task sudoku, chains, gsm8k or text8.

Writes a run directory with config.json, env.json, metrics.jsonl, checkpoints and training.png. The
same command goes on where a killed run stopped and ends with the same weights as one that was not.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from experiments import _cli as cli
from experiments._cli.console import print_once, progress
from mdm_jax import sharding
from mdm_jax.denoisers.base import bind
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.diffusion import corruption
from mdm_jax.diffusion.elbo import bits_per_token, perplexity
from mdm_jax.diffusion.objectives import Antithetic, AnyOrder, Complement, Continuous, Discrete
from mdm_jax.evals.likelihood import Likelihood, heldout_likelihood
from mdm_jax.evals.plots import results as result_plots
from mdm_jax.runs.directory import CHECKPOINTS, TOKENIZER, open_run
from mdm_jax.runs.metrics import MetricsLog
from mdm_jax.tasks.base import Batch, Task
from mdm_jax.tasks.sudoku.task import Sudoku
from mdm_jax.training import checkpoints
from mdm_jax.training.denoiser import init_params
from mdm_jax.training.losses import CanvasIds, TokenBatch, denoising_loss
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import TrainState, fit, init_state, train_step

TIMES = {
    "uniform": corruption.uniform_times,
    "stratified": corruption.stratified_times,
    "antithetic": corruption.antithetic_times,
}


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Several processes of one run: start the same command in each, with its own `id`.

    Attributes:
      count: how many there are.
      id: which one this is, from 0.
      coordinator: where process 0 listens, as host:port.
    """

    count: int = 1
    id: int = 0
    coordinator: str = "localhost:12321"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a training run.

    Attributes:
      task: what to learn.
      data_dir: where the task's files are, for tasks that need some.
      run_dir: where everything is written; None: runs/train_denoiser-TASK.
      steps: updates.
      batch_size: sequences in each.
      micro_batches: slices of a batch whose gradients are accumulated.
      model: shape of the transformer.
      learned_positions: tell the network where it is on the canvas, not distances alone.
      objective: which bound is trained on, with which masks.
      times: how mask rates are drawn over a batch.
      ema_decay: of the averaged weights, which are the ones evaluated and used.
      eval_every: updates between held-out bounds; the last update always has one.
      save_every: updates between checkpoints; the last update always has one.
      log_every: updates between rows of metrics.jsonl.
      heldout_rows: sequences of the held-out bound, 8 masks each.
      seed: of initial weights, batches, masks and the held-out bound.
      shard_params: split parameters, average and optimiser over devices instead of copying them.
    """

    task: cli.AnyTask = field(default_factory=Sudoku)
    data_dir: str | None = None
    run_dir: str | None = None
    steps: int = 1500
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
    eval_every: int = 500
    save_every: int = 500
    log_every: int = 10
    heldout_rows: int = 256
    seed: int = 0
    shard_params: bool = False
    processes: Processes = field(default_factory=Processes)

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "batch_size",
            "micro_batches",
            "eval_every",
            "save_every",
            "log_every",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}")
        if self.heldout_rows < 2:
            raise ValueError(f"heldout_rows must be at least 2, got {self.heldout_rows}")


def resolve(config: Config) -> Config:
    """The config with everything that follows from other settings filled in."""
    task = cli.with_data_dir(config.task, config.data_dir)
    if config.learned_positions and config.model.max_length is None:
        config = replace(config, model=replace(config.model, max_length=task.length))
    return replace(config, task=task, run_dir=config.run_dir or f"runs/train_denoiser-{task.name}")


def run(config: Config) -> Likelihood:
    """Train to the end, from wherever the run directory is. Returns the held-out likelihood."""
    if config.processes.count > 1:
        jax.distributed.initialize(
            config.processes.coordinator, config.processes.count, config.processes.id
        )
    config = resolve(config)
    mesh = sharding.make_mesh()
    check_shares(config, mesh.size)
    module, state, step = build(config, mesh)
    directory = Path(config.run_dir)
    log = open_log(config, directory)
    with checkpoints.open_manager(directory / CHECKPOINTS) as manager:
        state = checkpoints.restore(manager, state)
        if log:
            log.truncate_after(int(state.step))
        if int(state.step):
            print_once(f"going on from update {int(state.step)} of {directory}")
        heldout = trim(config.task.heldout(), config.heldout_rows)
        likelihood = _loop(config, module, state, step, mesh, manager, log, heldout)
    if log:
        result_plots.save(result_plots.training_figure(log.rows()), directory / "training.png")
    report(likelihood, config.task, directory)
    return likelihood


def check_shares(config: Config, devices: int) -> None:
    """Raise ValueError unless each micro-batch can be shared out evenly over the devices."""
    shares = devices * config.micro_batches
    if config.batch_size < 1 or config.batch_size % shares:
        raise ValueError(
            f"batch_size {config.batch_size} does not divide into {config.micro_batches} "
            f"micro-batches on each of {devices} devices; use a positive multiple of {shares}"
        )


def build(config: Config, mesh: jax.sharding.Mesh) -> tuple[Transformer, TrainState, Any]:
    """The network, its state on the devices, and the compiled update."""
    ids = config.task.vocabulary
    module = Transformer(config.model, ids.size)
    optimizer = make_optimizer(config.optimizer, config.steps)
    k_init = jax.random.fold_in(jax.random.key(config.seed), 0)
    state = jax.jit(
        lambda key: init_state(init_params(module, key, config.task.length, ids.mask_id), optimizer)
    )(k_init)
    homes = jax.tree.map(lambda _: sharding.replicated(mesh), state)
    if config.shard_params:
        homes = sharding.shard_largest_axis(mesh, state)
    loss = partial(
        denoising_loss,
        module=module,
        objective=config.objective,
        times=TIMES[config.times],
        ids=CanvasIds(ids.mask_id, ids.pad_id, config.task.gen_length),
    )
    step = partial(
        train_step,
        loss=loss,
        optimizer=optimizer,
        ema_decay=config.ema_decay,
        micro_batches=config.micro_batches,
    )
    compiled = jax.jit(step, donate_argnums=0, out_shardings=(homes, sharding.replicated(mesh)))
    return module, sharding.shard(jax.device_get(state), homes), compiled


def open_log(config: Config, directory: Path) -> MetricsLog | None:
    """The run directory's log, on the process that writes it."""
    open_run(directory, "train_denoiser", replace(config, run_dir=None), ignore=("processes",))
    if jax.process_index() != 0:
        return None
    if hasattr(config.task, "tokenizer"):
        config.task.tokenizer.save(str(directory / TOKENIZER))
    return MetricsLog(directory)


def _loop(
    config: Config,
    module: Transformer,
    state: TrainState,
    step: Any,
    mesh: jax.sharding.Mesh,
    manager: Any,
    log: MetricsLog | None,
    heldout: Batch,
) -> Likelihood:
    """Updates with logging, held-out bound and checkpoints; the held-out bound at the end."""
    k_train = sharding.shard(
        jax.random.fold_in(jax.random.key(config.seed), 1), sharding.replicated(mesh)
    )

    def batch_at(index: int) -> TokenBatch:
        batch = config.task.train_batch(config.seed, index, config.batch_size)
        return sharding.shard(TokenBatch(*batch), sharding.by_row(mesh))

    def measure(state: TrainState) -> Likelihood:
        denoise = bind(module, sharding.to_host(state.ema))
        k_eval = jax.random.fold_in(jax.random.key(config.seed), 2)
        return heldout_likelihood(
            k_eval, denoise, heldout, config.task.vocabulary, window=config.task.gen_length
        )

    likelihood, late = None, None
    with progress("training", config.steps, int(state.step)) as advance:
        for done, now, metrics in fit(state, step, batch_at, k_train, config.steps):
            last = done == config.steps
            advance(1, _append(log, *late) if late else "")  # the device is busy with this update
            late = (done, metrics) if last or done % config.log_every == 0 else None
            if last or done % config.eval_every == 0:
                likelihood = measure(now)
                measured = {f"heldout_{name}": x for name, x in likelihood._asdict().items()}
                late = (done, metrics | measured)
            if last or done % config.save_every == 0:
                if late:  # a run that goes on from this checkpoint will not write this row again
                    advance(0, _append(log, *late))
                    late = None
                checkpoints.save(manager, now)
    return likelihood or measure(state)


def _append(log: MetricsLog | None, step: int, metrics: dict[str, Any]) -> str:
    """Write one row of metrics; returns a note for the progress bar."""
    row = {name: float(value) for name, value in jax.device_get(metrics).items()}
    if log is not None:
        log.append(step, row)
    return f"loss {row['nelbo_per_token']:.3f}"


def trim(data: Batch, rows: int) -> Batch:
    """The first `rows` sequences."""
    return Batch(data.tokens[:rows], data.maskable[:rows])


def report(likelihood: Likelihood, task: Task, directory: Path) -> None:
    """The held-out bound in the units people use."""
    nats = likelihood.nelbo_per_token
    print_once(
        f"held-out bound on {task.name}: {nats:.4f} +- {1.96 * likelihood.error:.4f} nats per token\n"
        f"  = {bits_per_token(nats, 1):.4f} bits per token, perplexity {perplexity(nats, 1):.3f}\n"
        f"  {likelihood.nelbo_per_content_token:.4f} nats per token up to the first EOS\n"
        f"  {likelihood.nll_per_masked_token:.4f} nats per masked token"
    )
    if not np.isfinite(nats):
        raise ValueError("the held-out bound is not finite: lower --optimizer.learning_rate")
    print_once(f"run directory: {directory}")


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
