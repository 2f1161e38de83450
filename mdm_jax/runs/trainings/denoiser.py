"""Training a denoiser from scratch in a run directory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from mdm_jax import sharding
from mdm_jax.denoisers.base import Denoise, bind
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.diffusion import corruption
from mdm_jax.diffusion.genmd4 import RATES, Genmd4
from mdm_jax.diffusion.modal import Modal
from mdm_jax.diffusion.objectives import Objective
from mdm_jax.errors import MdmError
from mdm_jax.evals.likelihood import Likelihood, Rated, heldout_likelihood
from mdm_jax.keys import Stream, stream
from mdm_jax.runs.denoisers import weights_for
from mdm_jax.runs.training import Updates
from mdm_jax.tasks.base import Batch, stream_of
from mdm_jax.training.denoiser import compile_update, init_denoiser, shard_state
from mdm_jax.training.loop import Row, Update
from mdm_jax.training.losses import CanvasIds, Modalities, TokenBatch, denoising_loss
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.packing import pack
from mdm_jax.training.state import Params, TrainState, init_state

Times = Literal["uniform", "stratified", "antithetic"]
TIMES = {
    "uniform": corruption.uniform_times,
    "stratified": corruption.stratified_times,
    "antithetic": corruption.antithetic_times,
}


class Trained(NamedTuple):
    """A denoiser with its averaged weights, and its held-out likelihood."""

    denoise: Denoise
    likelihood: Likelihood


@dataclass(frozen=True, kw_only=True, eq=False)
class DenoiserTraining:
    """What stays the same while a denoiser is trained.

    Attributes:
      task: gives the sequences.
      seed: of weights, masks and batches.
      steps: updates in all.
      batch_size: sequences in each update.
      micro_batches: slices of a batch whose gradients are accumulated.
      pack: positions of a row that holds several sequences without their PAD; None: a row for each.
      model: shape of the transformer.
      start: run directory of a denoiser of the same shape, whose averaged weights training starts from.
      optimizer, ema_decay: of the parameters, and of their average.
      objective: which bound is trained on, with which masks.
      modality_weights: of the loss per token of each modality; None: every token counts alike.
      times: how mask rates are drawn over a batch.
      eval_every: updates between held-out bounds.
      heldout_rows: sequences of the held-out bound.
      shard_params: split parameters, average and optimiser over devices instead of copying them.
    """

    task: Any  # a `Task`, whose files `compile` reads first
    seed: int
    steps: int
    batch_size: int
    micro_batches: int
    pack: int | None
    model: TransformerConfig
    start: str | None
    optimizer: OptimizerConfig
    ema_decay: float
    objective: Objective | Modal | Genmd4
    modality_weights: tuple[float, ...] | None
    times: Times
    eval_every: int
    heldout_rows: int
    shard_params: bool

    @property
    def module(self) -> Transformer:
        """The network."""
        return Transformer(self.model, self.task.vocabulary.size, stream_of(self.task))

    def for_task(self) -> tuple[Objective | Genmd4, Modalities | None]:
        """The objective, and how modalities are weighed, on the task's canvases.

        Raises:
          MdmError: settings for modalities that the task does not have.
        """
        stream, weights = stream_of(self.task), self.modality_weights
        modal = isinstance(self.objective, Modal)
        if stream is None:
            if modal or weights is not None:
                raise MdmError(
                    f"task {self.task.name} has one modality: leave out objective:modal and "
                    "modality_weights"
                )
            return self.objective, None
        if isinstance(self.objective, Genmd4):
            raise MdmError(
                f"task {self.task.name} has several modalities: objective:modal gives each a schedule, "
                "objective:genmd4 is for one"
            )
        if weights is not None and (len(weights) != len(stream.spans) or min(weights) < 0):
            raise MdmError(
                f"modality_weights must be a number for each of {', '.join(stream.names)}"
            )
        return self.objective.on(stream) if modal else self.objective, Modalities(stream, weights)

    def compile(self) -> tuple[TrainState, Update]:
        """The state before the first update, on the devices, and the compiled update."""
        objective, modalities = self.for_task()
        ids, mesh, module = self.task.vocabulary, sharding.make_mesh(), self.module
        optimizer = make_optimizer(self.optimizer, self.steps, self.model)
        k_init, more = stream(self.seed, Stream.DENOISER_INIT), {}
        if isinstance(objective, Genmd4):
            more = {RATES: objective.init(self.task.length, ids.size, self.model.width)}
        state = init_denoiser(module, optimizer, k_init, self.task.length, ids.mask_id, more)
        if self.start is not None:
            state = init_state(weights_for(module, self.start, self.task) | more, optimizer)
        state, shardings = shard_state(state, mesh, self.shard_params)
        loss = partial(
            denoising_loss,
            module=module,
            objective=objective,
            times=TIMES[self.times],
            ids=CanvasIds(ids.mask_id, ids.pad_id, self.task.gen_length, modalities),
        )
        rest = {"ema_decay": self.ema_decay, "micro_batches": self.micro_batches}
        return state, compile_update(loss, optimizer, shardings, **rest)

    def updates(self, update: Update) -> Updates:
        """The updates, their batches, and the held-out likelihood now and then."""
        rows = sharding.by_row(sharding.make_mesh())

        def batch_at(index: int) -> TokenBatch:
            batch = TokenBatch(*self.task.train_batch(self.seed, index, self.batch_size))
            if self.pack is not None:
                pad, devices = self.task.vocabulary.pad_id, jax.device_count()
                batch = batch._replace(source=pack(batch.tokens, pad, self.pack, devices))
            return sharding.shard(batch, rows)

        return Updates(
            title="training",
            update=update,
            batch_at=batch_at,
            key=stream(self.seed, Stream.DENOISER_UPDATES),
            note=lambda row: f"loss {row['nelbo_per_token']:.3f}",
            evaluate=self._evaluation(),
            eval_every=self.eval_every,
        )

    def _evaluation(self) -> Callable[[TrainState, Row], Row]:
        """Measures the held-out likelihood of a state, as columns heldout_*."""
        data = Batch(*(column[: self.heldout_rows] for column in self.task.heldout()))
        ids, window = self.task.vocabulary, self.task.gen_length

        def evaluate(state: TrainState, row: Row) -> Row:
            k_eval = stream(self.seed, Stream.DENOISER_BOUND)
            found = heldout_likelihood(k_eval, self._rated(state.ema), data, ids, window=window)
            return {f"heldout_{name}": value for name, value in found._asdict().items()}

        return evaluate

    def trained(self, state: TrainState, last: Mapping[str, Any]) -> Trained:
        """The denoiser after the last update, whose row of metrics has its held-out likelihood."""
        likelihood = Likelihood(*(last[f"heldout_{name}"] for name in Likelihood._fields))
        ema = jax.tree.map(jnp.asarray, sharding.to_host(state.ema))
        return Trained(self._rated(ema).denoise, likelihood)

    def _rated(self, params: Params) -> Rated:
        """The denoiser with these parameters, and its masking rates where they are learned."""
        network = {name: leaf for name, leaf in params.items() if name != RATES}
        learned = isinstance(self.objective, Genmd4)
        rates = self.objective.rates(params[RATES]) if learned else None
        return Rated(bind(self.module, network), rates)
