"""Learn an unmasking policy from rewards (GRPO), and compare it with every basic policy.

Takes a trained denoiser (--denoiser RUN), which stays as it is, or trains one; where asked, the policy
first imitates another one; then it learns from correctness x speed of its own rollouts. Writes a run
directory with config.json, env.json, metrics.jsonl, checkpoints, best (the policy of the best window of
rewards, which is the one that is used), samples.jsonl, table.json and figures. The same command goes on
where a killed run stopped.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import _cli as cli
from experiments import train_denoiser
from experiments._cli.console import print_once, progress
from experiments._cli.learning import get_denoiser
from experiments._cli.tables import headline, print_paired_rows
from experiments.warm_start import WarmStart, imitated
from mdm_jax import sharding
from mdm_jax.denoisers.base import Denoise
from mdm_jax.evals.matched import compare_at_equal_calls, evaluator_in
from mdm_jax.evals.paired import PairedRow
from mdm_jax.evals.plots.run_figures import draw_policy_run
from mdm_jax.evals.score import take, verify_all
from mdm_jax.policies.action_distributions import Independent
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.policies.networks.confidence_network import ConfidenceConfig
from mdm_jax.rl.grpo import GrpoObjective
from mdm_jax.rl.learner import Learner, iterate, reinforce
from mdm_jax.rl.monitor import divergence_reason, ends_best_window
from mdm_jax.rl.rollouts import Prompts
from mdm_jax.runs.directory import BEST, CHECKPOINTS, open_run
from mdm_jax.runs.metrics import MetricsLog
from mdm_jax.runs.policies import PolicySpec, build_policy
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Examples, Task
from mdm_jax.tasks.sudoku import Sudoku
from mdm_jax.training import checkpoints
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import TrainState, fit, init_state

IMITATED = 10**9  # prompts of the warm start are numbered from here: a stream of their own
EVALUATION_ONLY = ("examples", "eval_batch_size", "policy_temperature", "tensorboard")


@dataclass(frozen=True, kw_only=True)
class ExpertConfig:
    """Rollouts of an expert that are added to every group.

    Attributes:
      expert: one rollout of this policy for every prompt; None: none.
      block_length: of that rollout; None: as the policy's.
    """

    expert: cli.AnyHeuristic | None = None
    block_length: int | None = None


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of learning from rewards.

    Attributes:
      task: what is generated.
      data_dir: where the task's files are, for tasks that need some.
      denoiser: run directory of a trained denoiser, or of a published checkpoint; None: train one into
        RUN_DIR/denoiser.
      oracle: exact conditionals instead of a trained denoiser, where the task can be listed.
      train: settings of that training; its task, data_dir, run_dir and seed are taken from here.
      run_dir: where everything is written; None: runs/learn_policy-TASK.
      design: the policy: its network, its actions, what it starts from.
      objective: reward, group, clipping, reference order.
      warm_start: imitation before it.
      steering: an expert in every group.
      steps: iterations, each of `objective.updates` updates.
      prompts: in each; each has `objective.group` rollouts.
      pool: training prompts that they are drawn from.
      optimizer: of the policy.
      window: iterations over which a reward is averaged to find the best policy.
      collapse: stop once a window loses more than this share of the best one's reward.
      block_length: semi-autoregressive generation in blocks of this many positions; None: all at once.
      temperature: of the token draws, in training and evaluation.
      policy_temperature: of the learned policy where it is evaluated; in training it is 1.
      examples: prompts that every policy completes.
      eval_batch_size: of generation.
      save_every: iterations between checkpoints; the last one always has one.
      tensorboard: write the metrics for TensorBoard, too (needs the package tensorboardX).
      seed: of everything.
    """

    task: cli.AnyTask = field(default_factory=Sudoku)
    data_dir: str | None = None
    denoiser: str | None = None
    oracle: bool = False
    train: train_denoiser.Config = field(
        default_factory=lambda: train_denoiser.Config(
            steps=1600, batch_size=64, save_every=800, eval_every=1600
        )
    )
    run_dir: str | None = None
    design: PolicySpec = field(default_factory=PolicySpec)
    objective: GrpoObjective = field(default_factory=GrpoObjective)
    warm_start: WarmStart = field(default_factory=WarmStart)
    steering: ExpertConfig = field(default_factory=ExpertConfig)
    steps: int = 200
    prompts: int = 16
    pool: int = 4096
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=1.5e-3, warmup=10, weight_decay=0.0)
    )
    window: int = 10
    collapse: float = 0.8
    block_length: int | None = None
    temperature: float = 1.0
    policy_temperature: float = 1.0
    examples: int = 1024
    eval_batch_size: int = 512
    save_every: int = 50
    tensorboard: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "prompts", "window", "examples", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.pool < self.prompts:
            raise ValueError(
                f"pool {self.pool} must hold the {self.prompts} prompts of an iteration"
            )
        if not 0 < self.collapse <= 1:
            raise ValueError(f"collapse must be in (0, 1], got {self.collapse}")
        if self.oracle and (self.denoiser is not None or self.design.network.hidden):
            raise ValueError(
                "exact conditionals (oracle) need no run (denoiser) and have no hidden states "
                "(design.network.hidden): leave the others out"
            )


# the setting of arXiv:2512.09106 but for the denoiser and the task, which are named on the command line
PUBLISHED = replace(
    Config(),
    design=PolicySpec(network=ConfidenceConfig(), family=Independent()),
    optimizer=OptimizerConfig(
        learning_rate=3e-5, warmup=100, b1=0.9, b2=0.99, weight_decay=0.1, clip=0.2
    ),
    steps=936,
    prompts=16,
    pool=14_973,
    block_length=32,
    temperature=0.0,
    save_every=100,
)
PRESETS = {"default": Config(), "paper": PUBLISHED}


class Learned(NamedTuple):
    """What comes out: the policy of the best window, and the denoiser that it goes with."""

    policy: LearnedPolicy
    denoise: Denoise


def resolve(config: Config) -> Config:
    """The config with everything that follows from other settings filled in."""
    task = cli.with_data_dir(config.task, config.data_dir)
    window = task.gen_length or task.length
    if config.design.steps is not None and not 1 <= config.design.steps <= window:
        raise ValueError(
            f"design.steps {config.design.steps} exceeds the {window} positions of {task.name}"
        )
    return replace(config, task=task, run_dir=config.run_dir or f"runs/learn_policy-{task.name}")


def run(config: Config) -> list[PairedRow]:
    """Learn, compare, draw."""
    config = resolve(config)
    directory = Path(config.run_dir)
    learned = learn(config)
    evaluator = evaluator_in(
        directory,
        config.task,
        learned.denoise,
        SamplerConfig(temperature=config.temperature, block_length=config.block_length),
        examples=config.examples,
        batch_size=config.eval_batch_size,
        seed=config.seed,
    )
    rows = compare_at_equal_calls(evaluator, [learned], config.seed, progress)
    print_paired_rows(rows, f"{config.task.name}: {config.examples} prompts")
    print_once(headline([paired_row.row for paired_row in rows]))
    draw_policy_run(config.task, rows, directory)
    print_once(f"figures and policy: {directory}")
    return rows


def learn(config: Config) -> Learned:
    """Learn to the end, from wherever the run directory is."""
    config = resolve(config)
    directory = Path(config.run_dir)
    open_run(directory, "learn_policy", replace(config, run_dir=None), ignore=EVALUATION_ONLY)
    log = MetricsLog(directory, config.tensorboard)
    denoise = get_denoiser(config)
    k_policy = jax.random.fold_in(jax.random.key(config.seed), 11)
    policy = build_policy(config.design, config.task, denoise, k_policy)
    learner = make_learner(config, policy)
    mesh = sharding.make_mesh()
    sharding.check_batch(config.prompts, mesh.size)
    examples = config.task.examples("train", config.pool)
    with (
        checkpoints.open_manager(directory / CHECKPOINTS) as manager,
        checkpoints.open_manager(directory / BEST, keep=1) as best,
    ):
        state = init_state(policy.params, learner.optimizer)
        if manager.latest_step() is None and config.warm_start.steps:
            state = imitated(
                config.warm_start,
                learner,
                config.optimizer,
                denoise,
                lambda index: prompts_at(config, examples, IMITATED + index),
                jax.random.fold_in(jax.random.key(config.seed), 12),
            )
        state = sharding.shard(jax.device_get(state), sharding.replicated(mesh))
        state = checkpoints.restore(manager, state)
        log.truncate_after(int(state.step))
        if int(state.step):
            print_once(f"going on from iteration {int(state.step)} of {directory}")
        state = _loop(config, learner, denoise, examples, state, mesh, (manager, best), log)
    params = jax.tree.map(jnp.asarray, sharding.to_host(state.params))
    if any((directory / BEST).iterdir()):
        params, step = checkpoints.restore_ema(directory / BEST, policy.params)
        print_once(f"the best window of rewards ended at iteration {step}: its policy is taken")
    heat = config.policy_temperature
    return Learned(replace(policy, params=params, policy_temperature=heat), denoise)


def make_learner(config: Config, policy: LearnedPolicy) -> Learner:
    """What stays the same during the run."""
    expert = config.steering.expert
    updates = config.steps * config.objective.updates
    return Learner(
        policy=policy,
        objective=config.objective,
        sampler=SamplerConfig(
            temperature=config.temperature, block_length=config.block_length
        ).for_task(config.task),
        optimizer=make_optimizer(config.optimizer, updates),
        experts=() if expert is None else (expert,),
        expert_block=config.steering.block_length,
    )


def prompts_at(config: Config, examples: Examples, index: int) -> Examples:
    """The prompts of one iteration: a function of the seed and its number."""
    rng = np.random.default_rng((config.seed, index))
    rows = rng.choice(len(examples.canvases), config.prompts, replace=False)
    return Examples(examples.canvases[rows], take(examples.references, rows))


def make_step(
    config: Config, learner: Learner, denoise: Denoise, mesh: jax.sharding.Mesh
) -> Callable[[TrainState, Any, Examples], tuple[TrainState, dict]]:
    """One iteration: a single compiled program where the verifier is JAX; else rollouts and updates
    are compiled, and only what was generated leaves the device to be judged.
    """
    task: Task = config.task
    rows = sharding.by_row(mesh)
    if task.pure_verifier:
        whole = jax.jit(partial(iterate, learner=learner, verify=task.verify), donate_argnums=0)
        return lambda state, key, batch: whole(
            state, key, sharding.shard(Prompts(*batch), rows), denoise
        )
    roll, update = jax.jit(learner.rollouts), jax.jit(partial(reinforce, learner=learner))

    def step(state: TrainState, key: Any, batch: Examples) -> tuple[TrainState, dict]:
        k_play, k_learn = jax.random.split(key)
        rollout = roll(
            state.params, k_play, sharding.shard(Prompts(batch.canvases, ()), rows), denoise
        )
        canvases = sharding.to_host(rollout.canvas)
        correct = [
            verify_all(task, group, take(batch.references, np.full(len(group), prompt)))
            for prompt, group in enumerate(canvases)
        ]
        return update(state, k_learn, rollout, sharding.shard(np.stack(correct), rows))

    return step


def _loop(
    config: Config,
    learner: Learner,
    denoise: Denoise,
    examples: Examples,
    state: TrainState,
    mesh: jax.sharding.Mesh,
    managers: tuple[Any, Any],
    log: MetricsLog,
) -> TrainState:
    """Iterations with logging, checkpoints, and an end where something goes wrong."""
    manager, best = managers
    step = make_step(config, learner, sharding.shard(denoise, sharding.replicated(mesh)), mesh)
    k_train = sharding.shard(
        jax.random.fold_in(jax.random.key(config.seed), 13), sharding.replicated(mesh)
    )
    batch_at = partial(prompts_at, config, examples)
    with progress("learning from rewards", config.steps, int(state.step)) as advance:
        for done, now, metrics in fit(state, step, batch_at, k_train, config.steps):
            row = {name: float(value) for name, value in jax.device_get(metrics).items()}
            log.append(done, row)
            note = f"reward {row['reward']:.3f}, {100 * row['accuracy']:.0f} % in {row['nfe']:.1f}"
            advance(1, note)
            state = now
            rewards = [row["reward"] for row in log.rows()]
            if wrong := divergence_reason(row, rewards, config.window, config.collapse):
                print_once(f"stopped at iteration {done}: {wrong}; the last good policy is kept")
                break
            if ends_best_window(rewards, config.window):
                checkpoints.save(best, now)
            if done == config.steps or done % config.save_every == 0:
                checkpoints.save(manager, now)
    return state


if __name__ == "__main__":
    cli.main(Config, run, __doc__, PRESETS)
