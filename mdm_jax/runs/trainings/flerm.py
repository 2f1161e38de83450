"""A training that records how far its updates move the outputs, or matches what another has recorded."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mdm_jax.denoisers.base import bind
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.diffusion.corruption import stratified_times
from mdm_jax.diffusion.objectives import AnyOrder
from mdm_jax.evals.likelihood import heldout_likelihood
from mdm_jax.keys import Stream, stream
from mdm_jax.tasks.base import Batch
from mdm_jax.training.denoiser import init_params
from mdm_jax.training.flerm import Rules, flerm_step, init_flerm, outputs_on
from mdm_jax.training.function_rates import base_sizes
from mdm_jax.training.losses import CanvasIds, TokenBatch, denoising_loss
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer, rate_schedule
from mdm_jax.training.state import TrainState

Record = dict[str, list[float]]  # by parameter, one size for each time they were measured


class Finished(NamedTuple):
    """What is left of a training: nats per held-out token, and how far its updates moved the outputs."""

    loss: float
    record: Record


@dataclass(frozen=True, kw_only=True, eq=False)
class FlermTraining:
    """What stays the same for all learning rates.

    Attributes:
      task: gives the sequences.
      model: shape of the transformer, whose blocks are not scanned.
      base_depth: blocks of the training that is matched, of which there are a whole number of copies.
      optimizer: AdamW, whose learning rate is not looked at.
      steps, batch_size, ema_decay, heldout_rows, seed: as in `DenoiserTraining`.
      every: updates between measurements.
    """

    task: Any
    model: TransformerConfig
    base_depth: int
    optimizer: OptimizerConfig
    steps: int
    batch_size: int
    ema_decay: float
    heldout_rows: int
    every: int
    seed: int

    @cached_property
    def module(self) -> Transformer:
        """The network."""
        return Transformer(self.model, self.task.vocabulary.size)

    @cached_property
    def ids(self) -> CanvasIds:
        """Of the task."""
        vocabulary = self.task.vocabulary
        return CanvasIds(vocabulary.mask_id, vocabulary.pad_id, self.task.gen_length)

    @cached_property
    def compiled(self) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
        """The first state, and the update without a measurement and with one; compiled once."""
        constant = replace(self.optimizer, learning_rate=1.0, warmup=0, final_fraction=1.0)
        optimizer = make_optimizer(constant, self.steps)
        loss = partial(
            denoising_loss,
            module=self.module,
            objective=AnyOrder(),
            times=stratified_times,
            ids=self.ids,
        )
        step = partial(flerm_step, rules=Rules(loss, optimizer, self.ema_decay))

        def outputs(batch: TokenBatch, key: jax.Array) -> Callable[..., Any]:
            return outputs_on(self.module, batch, self.ids, key)

        def first(key: jax.Array) -> Any:
            params = init_params(self.module, key, self.task.length, self.ids.mask)
            return init_flerm(params, optimizer)

        steps = [jax.jit(partial(step, outputs=one)) for one in (None, outputs)]
        return jax.jit(first), *steps

    def run(self, rate: float, wanted: Record | None, advance: Callable[[int], None]) -> Finished:
        """Train at one learning rate.

        Args:
          wanted: recorded by the training that is matched; None: nothing is.
          advance: called after every update.
        """
        first, plain, measuring = self.compiled
        state, record = first(stream(self.seed, Stream.DENOISER_INIT)), []
        key = stream(self.seed, Stream.DENOISER_UPDATES)
        rates = rate_schedule(replace(self.optimizer, learning_rate=rate), self.steps)
        for index in range(self.steps):
            batch = TokenBatch(*self.task.train_batch(self.seed, index, self.batch_size))
            arguments = state, jax.random.fold_in(key, index), batch, jnp.float32(rates(index))
            if index % self.every:
                state, _ = plain(*arguments, None)
            else:
                goal = self._goal(wanted, len(record), list(state.factors))
                state, sizes = measuring(*arguments, goal)
                record.append(sizes)
            advance(1)
        columns = {name: [float(one[name]) for one in record] for name in state.factors}
        return Finished(self._loss(state.train), columns)

    def _goal(
        self, wanted: Record | None, call: int, names: list[str]
    ) -> dict[str, np.float32] | None:
        if wanted is None:
            return None
        now = {name: values[call] for name, values in wanted.items()}
        sizes = base_sizes(now, names, self.model.depth // self.base_depth)
        return {name: np.float32(size) for name, size in sizes.items()}

    def _loss(self, state: TrainState) -> float:
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.ema)):
            return float("inf")
        data = Batch(*(column[: self.heldout_rows] for column in self.task.heldout()))
        k_bound = stream(self.seed, Stream.DENOISER_BOUND)
        denoise = bind(self.module, state.ema)
        window = self.task.gen_length
        return heldout_likelihood(
            k_bound, denoise, data, self.task.vocabulary, window=window
        ).nelbo_per_token
