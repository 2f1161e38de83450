"""Learning in a run directory which positions depend on each other."""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp

from mdm_jax import sharding
from mdm_jax.denoisers.base import DenoiseHidden, hidden_width
from mdm_jax.keys import Stream, stream
from mdm_jax.orders.dependence import CalledLabels, ExactLabels, Labels
from mdm_jax.policies.networks.pair_network import PairConfig, PairNetwork
from mdm_jax.policies.pairwise.demask import Demask
from mdm_jax.policies.pairwise.predicted import PredictedPairs
from mdm_jax.runs.pairs import init_pairs
from mdm_jax.runs.reporter import Reporter
from mdm_jax.runs.training import TrainingConfig, TrainingRun, Updates, run_updates
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Task
from mdm_jax.tasks.clean_batches import clean_batch
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.pairs import PairBatch, pair_update
from mdm_jax.training.state import init_state


@dataclass(frozen=True, kw_only=True, eq=False)
class PairTraining:
    """What stays the same while the head is trained.

    Attributes:
      task, denoise: what is generated, and the denoiser whose hidden states are read.
      seed: of weights, masks and batches.
      steps: updates in all.
      batch_size: sequences in each update.
      network: shape of the head.
      label_calls: denoiser calls for the labels of a sequence; 0: the task's exact dependences.
      allowance: of the policy.
      optimizer, ema_decay: of the parameters, and of their average.
    """

    task: Task
    denoise: DenoiseHidden
    seed: int
    steps: int
    batch_size: int
    network: PairConfig
    label_calls: int
    allowance: float
    optimizer: OptimizerConfig
    ema_decay: float

    @property
    def calls(self) -> int:
        """Denoiser calls of the whole training."""
        return self.steps * self.batch_size * (1 + self.label_calls)

    @cached_property
    def _head(self) -> PairNetwork:
        return PairNetwork(self.network)

    def _labels(self) -> Labels:
        return (
            CalledLabels(self.label_calls) if self.label_calls else ExactLabels(self.task.oracle())
        )

    def train(self, config: TrainingConfig, run: TrainingRun, reporter: Reporter) -> PredictedPairs:
        """All updates that are left to do; DEMASK with the averaged head."""
        k_init = stream(self.seed, Stream.PAIRS_INIT)
        params = init_pairs(self._head, k_init, hidden_width(self.denoise))
        optimizer = make_optimizer(self.optimizer, self.steps)
        mesh = sharding.make_mesh()
        state = sharding.replicate(init_state(params, optimizer), mesh)
        denoise, labels = sharding.replicate((self.denoise, self._labels()), mesh)
        settings = SamplerConfig().for_task(self.task)
        updates = Updates(
            title="learning dependence",
            update=pair_update(self._head, denoise, labels, settings, optimizer, self.ema_decay),
            batch_at=self._batch_at,
            key=stream(self.seed, Stream.PAIRS_UPDATES),
            note="off by {error:.3f} of {spread:.3f}".format_map,
        )
        state = run_updates(config, run, state, updates, reporter)
        params = jax.tree.map(jnp.asarray, sharding.to_host(state.ema))
        return PredictedPairs(self._head, params, Demask(self.allowance))

    def _batch_at(self, index: int) -> PairBatch:
        """The same on every device."""
        batch = clean_batch(self.task, self.seed, index, self.batch_size)
        return sharding.replicate(PairBatch(*batch), sharding.make_mesh())
