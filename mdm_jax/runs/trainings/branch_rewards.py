"""Learning a policy with a price from rewards, with credit for each step, in a run directory."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import jax

from mdm_jax import sharding
from mdm_jax.denoisers.base import Denoise
from mdm_jax.keys import Stream, stream
from mdm_jax.orders.fidelity.evaluation import prices_between
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.policies.networks.adaptive_network import AdaptiveConfig
from mdm_jax.rl.branch_learner import BranchLearner, compiled_branches
from mdm_jax.rl.branch_objective import BranchObjective
from mdm_jax.rl.reached import Measure
from mdm_jax.rl.rollouts import Prompts, draw_prompts
from mdm_jax.runs.adaptive import best_policy, fresh_policy
from mdm_jax.runs.directory import BEST
from mdm_jax.runs.reporter import Reporter
from mdm_jax.runs.training import TrainingConfig, TrainingRun, Updates, run_updates
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Task
from mdm_jax.training import checkpoints
from mdm_jax.training.held_out import HeldOutMonitor
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import TrainState, init_state

HELD_OUT_PRICES, HELD_OUT_PROMPTS = (
    4,
    256,
)  # prices evenly spaced in logs over those that are learned


@dataclass(frozen=True, kw_only=True, eq=False)
class BranchTraining:
    """What stays the same while a policy with a price learns from rewards.

    Attributes:
      task, denoise: what is generated, and the denoiser that it is generated with.
      seed: of weights, rollouts and the choice of prompts.
      steps: updates in all.
      network: shape of the policy.
      branches: what is rewarded, and what is compared.
      sampler: settings of the rollouts, of any task.
      prompts: prompts of an update.
      pool: number of training prompts that they are drawn from.
      optimizer: of the policy.
      window: updates between scores on held-out prompts.
    """

    task: Task
    denoise: Denoise
    seed: int
    steps: int
    network: AdaptiveConfig
    branches: BranchObjective
    sampler: SamplerConfig
    prompts: int
    pool: int
    optimizer: OptimizerConfig
    window: int

    @cached_property
    def policy(self) -> AdaptivePolicy:
        """Before training."""
        return fresh_policy(self.network, self.task, stream(self.seed, Stream.POLICY_INIT))

    @cached_property
    def learner(self) -> BranchLearner:
        """The parts of an update."""
        return BranchLearner(
            policy=self.policy,
            objective=self.branches,
            sampler=self.sampler.for_task(self.task),
            optimizer=make_optimizer(self.optimizer, self.steps),
            steps=self.steps,
        )

    def train(self, config: TrainingConfig, run: TrainingRun, reporter: Reporter) -> AdaptivePolicy:
        """All updates that are left to do; the policy that was best on held-out prompts."""
        reporter.say(self.calls())
        # updates give up their state, and the policy's parameters are used again
        params = {"policy": jax.device_get(self.policy.params)}
        mesh = sharding.make_mesh()
        state = sharding.replicate(init_state(params, self.learner.optimizer), mesh)
        with checkpoints.open_manager(run.directory / BEST, keep=1) as best:
            keep = partial(checkpoints.save, best)
            if run.is_new:
                keep(state)
            run_updates(config, run, state, self._updates(run, keep), reporter)
        return best_policy(run.directory, self.policy)

    def calls(self) -> str:
        """How many denoiser calls an update makes at most, in one line."""
        most = self.learner.sampler.budget
        states = self.prompts * self.branches.states
        branches = states * self.branches.tried
        held_out = HELD_OUT_PRICES * HELD_OUT_PROMPTS
        total = self.prompts * most + states + branches * (most - 1)
        return (
            f"at most {total:,} denoiser calls in an update, on one canvas each: {self.prompts} rollouts "
            f"of {most} calls or fewer, and {branches} branches from {states} of their states; every "
            f"{self.window} updates {held_out:,} rollouts of held-out prompts"
        )

    def _updates(self, run: TrainingRun, keep: Callable[[TrainState], None]) -> Updates:
        """The updates and their prompts, and the held-out score now and then."""
        mesh = sharding.make_mesh()
        denoise = sharding.replicate(self.denoise, mesh)
        return Updates(
            title="learning from rewards",
            update=compiled_branches(self.learner, denoise, self.task, mesh),
            batch_at=self._prompts_at,
            key=stream(self.seed, Stream.POLICY_UPDATES),
            note="reward {reward:.3f}, accuracy {accuracy:.0%} in {nfe:.1f} calls".format_map,
            evaluate=self._monitor(run, keep, denoise),
            eval_every=self.window,
        )

    def _monitor(
        self, run: TrainingRun, keep: Callable[[TrainState], None], denoise: Denoise
    ) -> HeldOutMonitor:
        """Completes held-out prompts and keeps the best parameters."""
        copies = sharding.replicated(sharding.make_mesh())
        keys = jax.random.split(stream(self.seed, Stream.POLICY_HELD_OUT), HELD_OUT_PROMPTS)
        found = Prompts(*self.task.examples("heldout", HELD_OUT_PROMPTS))
        prompts = found._replace(canvases=sharding.shard(found.canvases, copies))
        measure = Measure(
            sharding.shard(keys, copies),
            prompts,
            denoise,
            self.task,
            self.learner.sampler,
            self.branches,
        )
        prices = prices_between(*self.branches.prices, HELD_OUT_PRICES)
        score = partial(measure.score, prices=prices)
        return HeldOutMonitor(self.policy, prices, measure, score, run.log.rows, keep)

    @cached_property
    def _prompts_at(self) -> Callable[[int], Prompts]:
        """The prompts of an update."""
        pool = Prompts(*self.task.examples("train", self.pool))
        return partial(draw_prompts, pool, self.prompts, self.seed)
