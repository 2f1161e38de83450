"""Learning a policy from rewards in a run directory."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

from mdm_jax import sharding
from mdm_jax.denoisers.base import Denoise
from mdm_jax.keys import Stream, stream
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.rl.compiled import compiled_iteration
from mdm_jax.rl.grpo import GrpoObjective
from mdm_jax.rl.learner import ExpertConfig, Learner
from mdm_jax.rl.monitor import RewardMonitor
from mdm_jax.rl.rollouts import Prompts, draw_prompts
from mdm_jax.rl.warm_start import WarmStart, warm_start
from mdm_jax.runs.directory import BEST
from mdm_jax.runs.policies import PolicySpec, build_policy
from mdm_jax.runs.reporter import Progress, Reporter
from mdm_jax.runs.training import TrainingConfig, TrainingRun, Updates, run_updates
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Task
from mdm_jax.training import checkpoints
from mdm_jax.training.loop import Services, TrainingStopped
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import Params, init_state


@dataclass(frozen=True, kw_only=True, eq=False)
class RewardTraining:
    """What stays the same while a policy learns from rewards.

    Attributes:
      task, denoise: what is generated, and the denoiser that it is generated with.
      seed: of weights, rollouts and the choice of prompts.
      steps: iterations in all.
      policy: network, action distribution and initialisation of the policy.
      objective: reward, group, clipping, reference order.
      sampler: settings of the rollouts, of any task.
      warm_start: imitation before the first iteration.
      expert: rollouts of an expert in every group.
      prompts: prompts of an iteration.
      pool: number of training prompts that they are drawn from.
      optimizer: of the policy.
      window, collapse: as in `RewardMonitor`.
    """

    task: Task
    denoise: Denoise
    seed: int
    steps: int
    policy: PolicySpec
    objective: GrpoObjective
    sampler: SamplerConfig
    warm_start: WarmStart
    expert: ExpertConfig
    prompts: int
    pool: int
    optimizer: OptimizerConfig
    window: int
    collapse: float

    def initial_policy(self) -> LearnedPolicy:
        """The policy before the first update."""
        return build_policy(
            self.policy, self.task, self.denoise, stream(self.seed, Stream.POLICY_INIT)
        )

    def train(
        self, policy: LearnedPolicy, config: TrainingConfig, run: TrainingRun, reporter: Reporter
    ) -> None:
        """All iterations that are left to do, from `policy` or the latest checkpoint of the run."""
        learner, params = self.learner(policy), policy.params
        reporter.say(self.calls(run))
        if run.is_new and self.warm_start.steps:
            params = self._imitate(learner, reporter.progress)
        state = sharding.replicate(init_state(params, learner.optimizer), sharding.make_mesh())
        with checkpoints.open_manager(run.directory / BEST, keep=1) as best:
            keep = partial(checkpoints.save, best)
            monitor = RewardMonitor(self.window, self.collapse, run.log.rows, keep)
            if reason := monitor.before():
                return reporter.say(f"this run was stopped because {reason}; it does not go on")
            try:
                run_updates(config, run, state, self.updates(learner, monitor), reporter)
            except TrainingStopped as stop:
                reporter.say(f"stopped at iteration {stop.step}: {stop.reason}")

    def calls(self, run: TrainingRun) -> str:
        """How many denoiser calls are left to make, in one line."""
        rollouts = self.prompts * (self.objective.group + len(self.expert.policies))
        left = self.steps - (run.checkpoints.latest_step() or 0)
        taught = self.warm_start.steps * self.prompts if run.is_new else 0
        most = self.sampler.for_task(self.task).budget or self.task.gen_length or self.task.length
        return (
            f"at most {(left * rollouts + taught) * most:,} denoiser calls, on one canvas each: "
            f"{left * rollouts + taught:,} rollouts of {most} calls or fewer"
        )

    def learner(self, policy: LearnedPolicy) -> Learner:
        """The parts of an iteration."""
        return Learner(
            policy=policy,
            objective=self.objective,
            sampler=self.sampler.for_task(self.task),
            optimizer=make_optimizer(self.optimizer, self.steps * self.objective.updates),
            experts=self.expert.policies,
            expert_block=self.expert.block_length,
        )

    def updates(self, learner: Learner, monitor: RewardMonitor) -> Updates:
        """The iterations and their prompts, watched by a monitor."""
        mesh = sharding.make_mesh()
        denoise = sharding.replicate(self.denoise, mesh)
        return Updates(
            title="learning from rewards",
            update=compiled_iteration(learner, denoise, self.task, mesh),
            batch_at=self._prompts_at,
            key=stream(self.seed, Stream.POLICY_UPDATES),
            note="reward {reward:.3f}, accuracy {accuracy:.0%} in {nfe:.1f} calls".format_map,
            evaluate=monitor.evaluate,
            eval_every=self.window,
            guard=monitor.guard,
        )

    def _imitate(self, learner: Learner, progress: Progress) -> Params:
        """The parameters after the warm start."""
        with progress("imitating", self.warm_start.steps) as advance:
            note = "{imitation_nll:.3f} nats per step".format_map
            return warm_start(
                self.warm_start,
                learner,
                self.optimizer,
                self.denoise,
                self._prompts_at,
                stream(self.seed, Stream.WARM_START),
                Services(log_every=1, progress=advance, note=note),
            )

    @cached_property
    def _prompts_at(self) -> Callable[[int], Prompts]:
        """The prompts of an iteration."""
        pool = Prompts(*self.task.examples("train", self.pool))
        return partial(draw_prompts, pool, self.prompts, self.seed)
