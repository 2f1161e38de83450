"""Learning an order by its fidelity to sequential decoding in a run directory."""

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mdm_jax import sharding
from mdm_jax.denoisers.base import Denoise
from mdm_jax.keys import Stream, stream
from mdm_jax.orders.fidelity.config import CriticParts, ReplayConfig
from mdm_jax.orders.fidelity.cost import HELD_OUT_PRICES, FidelityCost, fidelity_cost
from mdm_jax.orders.fidelity.evaluation import fidelities, held_out, prices_between, score
from mdm_jax.orders.fidelity.exploration import FidelityBatch
from mdm_jax.orders.fidelity.teacher_forcing import Sequence
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.policies.networks.adaptive_network import AdaptiveConfig
from mdm_jax.policies.networks.critic_network import CriticNetwork
from mdm_jax.runs.adaptive import best_policy, forcing_for, fresh_policy
from mdm_jax.runs.directory import BEST
from mdm_jax.runs.reporter import Reporter
from mdm_jax.runs.training import TrainingConfig, TrainingRun, Updates, run_updates
from mdm_jax.tasks.base import Task
from mdm_jax.tasks.clean_batches import HELDOUT, clean_batch
from mdm_jax.training import checkpoints
from mdm_jax.training.fidelity import critic_optimizer, critic_update, init_critic_state
from mdm_jax.training.held_out import HeldOutMonitor
from mdm_jax.training.optimizers import OptimizerConfig
from mdm_jax.training.state import TrainState


@dataclass(frozen=True, kw_only=True, eq=False)
class FidelityTraining:
    """What stays the same while a policy with a price is learned.

    Attributes:
      task, denoise: what is generated, and the denoiser that it is generated with.
      seed: of weights, sets, tokens and batches.
      steps: updates in all.
      batch_size: sequences in each update.
      budget: most denoiser calls for one of them.
      within_budget: the policy knows how many of these are left, and takes no more at generation.
      block_length: semi-autoregressive blocks of this many positions; None: none.
      network: shape of policy and critic.
      replay: what is learned from, and how.
      policy_optimizer, critic_optimizer: one for each network.
      ema_decay: of the averaged weights, at each gradient step.
      eval_every: updates between held-out scores.
      heldout_rows: sequences of the held-out score.
    """

    task: Task
    denoise: Denoise
    seed: int
    steps: int
    batch_size: int
    budget: int
    within_budget: bool
    block_length: int | None
    network: AdaptiveConfig
    replay: ReplayConfig
    policy_optimizer: OptimizerConfig
    critic_optimizer: OptimizerConfig
    ema_decay: float
    eval_every: int
    heldout_rows: int

    @cached_property
    def policy(self) -> AdaptivePolicy:
        """Before training."""
        key, steps = (
            stream(self.seed, Stream.FIDELITY_INIT),
            self.budget if self.within_budget else 0,
        )
        return replace(fresh_policy(self.network, self.task, key), steps=steps)

    @cached_property
    def parts(self) -> CriticParts:
        """What the updates are made with."""
        forcing = forcing_for(self.task, self.budget, self.block_length)
        return CriticParts(self.replay, forcing, CriticNetwork(self.network))

    @cached_property
    def _optimizer(self) -> Any:
        steps = self.steps * self.replay.updates
        return critic_optimizer(self.policy_optimizer, self.critic_optimizer, steps)

    def train(self, config: TrainingConfig, run: TrainingRun, reporter: Reporter) -> AdaptivePolicy:
        """All updates that are left to do; the policy that was best on held-out sequences."""
        reporter.say(self.cost(run).summary())
        key, first = (
            jax.random.fold_in(stream(self.seed, Stream.FIDELITY_INIT), 1),
            self._batch_at(0),
        )
        state = init_critic_state(
            key, self.policy, first, self.denoise, self.parts, self._optimizer
        )
        state = sharding.replicate(state, sharding.make_mesh())
        with checkpoints.open_manager(run.directory / BEST, keep=1) as best:
            if run.is_new:
                _keep(best, state)
            run_updates(config, run, state, self._updates(run, partial(_keep, best)), reporter)
        return best_policy(run.directory, self.policy)

    def cost(self, run: TrainingRun) -> FidelityCost:
        """What is left to do, known before the first update."""
        window = self.task.gen_length or self.task.length
        steps = self.steps - (run.checkpoints.latest_step() or 0)
        return fidelity_cost(
            self.replay,
            batch_size=self.batch_size,
            budget=self.budget,
            window=window,
            steps=steps,
            heldout_rows=self.heldout_rows,
            eval_every=self.eval_every,
        )

    def _updates(self, run: TrainingRun, keep: Any) -> Updates:
        """The updates, the same on every device, and the held-out score now and then."""
        denoise = sharding.replicate(self.denoise, sharding.make_mesh())
        return Updates(
            title="learning the order",
            update=critic_update(self.policy, denoise, self.parts, self._optimizer, self.ema_decay),
            batch_at=self._batch_at,
            key=stream(self.seed, Stream.FIDELITY_UPDATES),
            note="{walk_calls:.2f} calls, critic off by {nats_error:.3f} nats".format_map,
            evaluate=self._monitor(run, keep),
            eval_every=self.eval_every,
        )

    def _monitor(self, run: TrainingRun, keep: Any) -> HeldOutMonitor:
        """Measures on held-out sequences and keeps the best parameters."""
        batch = clean_batch(self.task, self.seed, HELDOUT + 3, self.heldout_rows)
        sequences = Sequence(jnp.asarray(batch.tokens), jnp.asarray(batch.maskable))
        prepare = jax.jit(partial(held_out, parts=self.parts))
        data = prepare(stream(self.seed, Stream.FIDELITY_HELD_OUT), sequences, self.denoise)
        measure = jax.jit(partial(fidelities, parts=self.parts))
        bound = partial(measure, data=data, denoise=self.denoise)
        prices = prices_between(*self.replay.prices, HELD_OUT_PRICES)
        rated = partial(score, prices=prices, parts=self.parts)
        return HeldOutMonitor(self.policy, prices, bound, rated, run.log.rows, keep)

    def _batch_at(self, index: int) -> FidelityBatch:
        batch = clean_batch(self.task, self.seed, index, self.batch_size)
        share = np.full(self.batch_size, index / self.steps, np.float32)
        return sharding.replicate(FidelityBatch(*batch, share), sharding.make_mesh())


def _keep(best: checkpoints.Manager, state: TrainState) -> None:
    """Save the policy's averages; critic, replay and optimiser are left out."""
    policy = {"policy": state.ema["policy"]}
    step = {"step": state.step}
    checkpoints.save(best, state._replace(params=step, ema=policy, opt_state=step))
