"""Learning an order by variational inference in a run directory."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mdm_jax import sharding
from mdm_jax.denoisers.base import Denoise
from mdm_jax.evals.likelihood import DRAWS
from mdm_jax.evals.order_bounds import OrderBounds, order_bounds
from mdm_jax.keys import Stream, stream
from mdm_jax.orders.calls import OrderCalls, start_calls
from mdm_jax.orders.variational.evaluation import PATHS, FittedOrder
from mdm_jax.orders.variational.loss import OrderBatch, OrderParts
from mdm_jax.orders.variational.objective import OrderObjective
from mdm_jax.orders.variational.start import InitConfig
from mdm_jax.runs.orders import LearnedOrder, fresh_params, learned_order
from mdm_jax.runs.policy_start import PolicyStart
from mdm_jax.runs.reporter import Progress
from mdm_jax.runs.static_order import StaticStart
from mdm_jax.runs.training import TrainingRun, Updates
from mdm_jax.tasks.base import Task
from mdm_jax.tasks.clean_batches import HELDOUT, clean_batch
from mdm_jax.training.optimizers import OptimizerConfig
from mdm_jax.training.order import order_optimizer, order_update
from mdm_jax.training.state import TrainState, init_state

START = "start.json"  # the static order that learning starts from


@dataclass(frozen=True, kw_only=True, eq=False)
class VariationalTraining:
    """What stays the same while posterior and policy are learned.

    Attributes:
      task, denoise: what is generated, and the denoiser that it is generated with.
      parts: the networks of posterior and policy; see `order_parts`.
      seed: of weights, paths and batches.
      steps: updates in all.
      batch_size: sequences in each update.
      start: where learning starts from.
      objective: what is optimised.
      joint: fine-tune the denoiser jointly.
      posterior_optimizer, policy_optimizer, denoiser_optimizer: one for each part.
      ema_decay: of the averaged weights.
      heldout_rows: sequences of the held-out bound.
      policy_temperature: of the learned policy.
    """

    task: Task
    denoise: Denoise
    parts: OrderParts
    seed: int
    steps: int
    batch_size: int
    start: InitConfig
    objective: OrderObjective
    joint: bool
    posterior_optimizer: OptimizerConfig
    policy_optimizer: OptimizerConfig
    denoiser_optimizer: OptimizerConfig
    ema_decay: float
    heldout_rows: int
    policy_temperature: float

    @cached_property
    def _optimizer(self) -> Any:
        """An optimiser for each part that is trained."""
        return order_optimizer(
            self.posterior_optimizer,
            self.policy_optimizer,
            self.denoiser_optimizer if self.joint else None,
            self.steps,
        )

    def calls(self, run: TrainingRun) -> OrderCalls:
        """Denoiser calls that are left to make."""
        model, chosen = self.parts.model, int(self.start.chooses)  # one call more, on the prompt
        searches = run.is_new and not (run.directory / START).exists()
        done = run.checkpoints.latest_step() or 0
        return OrderCalls(
            start_calls(self.start, model, self.task.length) if searches else 0,
            (self.steps - done) * self.batch_size * (self.objective.samples + chosen),
            self.heldout_rows * (PATHS * model.budget + DRAWS + chosen),
        )

    def initial_state(self, run: TrainingRun, progress: Progress) -> TrainState:
        """The state before the first update; in a new run, at the orders that learning starts from.

        Args:
          progress: shows the search.
        """
        k_init = stream(self.seed, Stream.ORDER_INIT)
        params = fresh_params(self.parts, self.task, k_init, self.denoise, self.joint)
        if run.is_new:
            params = self._started(params, run.directory / START, progress)
        return sharding.replicate(init_state(params, self._optimizer), sharding.make_mesh())

    def _started(self, params: dict[str, Any], path: Path, progress: Progress) -> dict[str, Any]:
        """The parameters at the orders that learning starts from."""
        temperature = float(self.objective.temperature_at(jnp.zeros((), jnp.float32)))
        settings = self.task, self.seed, self.denoise, self.parts, self.start
        if self.start.policy is not None:
            return PolicyStart(*settings).apply(params, temperature, progress)
        return StaticStart(*settings).apply(params, temperature, path, progress)

    def updates(self) -> Updates:
        """The updates and their batches."""
        mesh = sharding.make_mesh()
        denoise, rows = sharding.replicate(self.denoise, mesh), sharding.by_row(mesh)

        def batch_at(index: int) -> OrderBatch:
            share = np.full(self.batch_size, index / self.steps, np.float32)
            batch = clean_batch(self.task, self.seed, index, self.batch_size)
            return sharding.shard(OrderBatch(*batch, share), rows)

        return Updates(
            title="learning the order",
            update=order_update(
                self.parts, self.objective, self._optimizer, denoise, self.ema_decay
            ),
            batch_at=batch_at,
            key=stream(self.seed, Stream.ORDER_UPDATES),
            note=lambda row: f"bound {row['nelbo']:.3f} nats",
        )

    def learned(self, state: TrainState) -> LearnedOrder:
        """What has been learned, with averaged weights."""
        params = jax.tree.map(jnp.asarray, sharding.to_host(state.ema))
        return learned_order(self.parts, params, self.denoise, self.policy_temperature)

    def bounds(self, learned: LearnedOrder) -> OrderBounds:
        """The held-out bound, beside the any-order bound on the same sequences."""
        data = clean_batch(self.task, self.seed, HELDOUT + 2, self.heldout_rows)
        order = FittedOrder(learned.parts, learned.params, self.objective.temperature)
        k_eval = stream(self.seed, Stream.ORDER_BOUND)
        return order_bounds(k_eval, order, data, learned.denoise, self.task, self.batch_size)
