"""Learn an unmasking policy from rewards (GRPO), and compare it with the heuristic baselines.

Takes a trained denoiser (--denoiser RUN), which is not changed, or trains one. The policy may first
imitate another one (--warm_start.steps); then it learns from the correctness and speed of its own
rollouts. Writes a run directory with config.json, env.json, metrics.jsonl, checkpoints, best (the
policy at the end of the best window of rewards, which is the one that is used), samples.jsonl, table.json
and figures. The same command resumes a run that was interrupted or killed.
"""

from dataclasses import dataclass, field, replace

from experiments import _cli as cli
from experiments._cli.console import print_once
from experiments._cli.learning import LearningConfig, compare, learning_run
from mdm_jax import sharding
from mdm_jax.denoisers.base import Denoise
from mdm_jax.errors import MdmError, check_range
from mdm_jax.evals.paired import PairedRow
from mdm_jax.evals.plots.run_figures import draw_policy_run
from mdm_jax.evals.sentences import headline
from mdm_jax.external_files import expand
from mdm_jax.policies.action_distributions import Independent
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.policies.networks.confidence_network import ConfidenceConfig
from mdm_jax.rl.grpo import GrpoObjective
from mdm_jax.rl.learner import ExpertConfig
from mdm_jax.rl.warm_start import WarmStart
from mdm_jax.runs.identity import start_identity
from mdm_jax.runs.policies import PolicySpec, load_start, trained_params
from mdm_jax.runs.task_choice import with_data_dir
from mdm_jax.runs.trainings.rewards import RewardTraining
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.checks import check_prompts
from mdm_jax.tasks.splits import MOST
from mdm_jax.training.optimizers import OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class Config(LearningConfig):
    """Settings of learning a policy from rewards.

    Attributes:
      policy: network, action distribution and initialisation of the policy.
      objective: reward, group, clipping, reference order.
      warm_start: imitation before the first iteration.
      expert: rollouts of an expert in every group.
      prompts: prompts of an iteration; each gets `objective.group` rollouts.
      pool: number of training prompts that they are drawn from.
      optimizer: of the policy; an iteration makes `objective.updates` updates.
      window: iterations over which the reward is averaged to find the best policy.
      collapse: stop when a window's reward is below the best one's by more than this share of it.
      block_length: semi-autoregressive generation in blocks of this many positions; None: all at once.
    """

    steps: int = 200
    save_every: int = 50
    log_every: cli.Fixed[int] = 1
    policy_temperature: float = 1.0
    policy: PolicySpec = field(default_factory=PolicySpec)
    objective: GrpoObjective = field(default_factory=GrpoObjective)
    warm_start: WarmStart = field(default_factory=WarmStart)
    expert: ExpertConfig = field(default_factory=ExpertConfig)
    prompts: int = 16
    pool: int = 4096
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=1.5e-3, warmup=10, weight_decay=0.0)
    )
    window: int = 10
    collapse: float = 0.8
    block_length: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("prompts", "window"):
            check_range(name, getattr(self, name), 1, MOST)
        check_range("pool", self.pool, self.prompts, MOST)
        check_range("collapse", self.collapse, above=0, high=1)
        if self.oracle and self.policy.network.hidden:
            raise MdmError("--oracle has no hidden states for --policy.network.hidden")


# the setting of arXiv:2512.09106, except denoiser and task, which are given on the command line
PUBLISHED = replace(
    Config(),
    policy=PolicySpec(network=ConfidenceConfig(), family=Independent()),
    optimizer=OptimizerConfig(
        learning_rate=3e-5, warmup=100, b1=0.9, b2=0.99, weight_decay=0.1, clip=0.2
    ),
    steps=936,
    pool=14_973,
    block_length=32,
    temperature=0.0,
    save_every=100,
)
PRESETS = {"default": Config(), "paper": PUBLISHED}


def resolve(config: Config) -> Config:
    """The config with everything that follows from other settings filled in."""
    task = with_data_dir(config.task, config.data_dir)
    window, steps = task.gen_length or task.length, config.policy.steps
    if steps is not None and not 1 <= steps <= window:
        raise MdmError(f"policy.steps {steps} exceeds the {window} positions of {task.name}")
    sampling(config).for_task(task).check(task.length)
    return replace(config, task=task, run_dir=config.run_dir or f"runs/learn_policy-{task.name}")


def sampling(config: Config) -> SamplerConfig:
    """Sampler settings of training and evaluation."""
    return SamplerConfig(temperature=config.temperature, block_length=config.block_length)


def run(config: Config) -> list[PairedRow]:
    """Learn, compare, draw."""
    config = resolve(config)
    policy, denoise = learn(config)
    rows = compare(config, [(policy, denoise)], denoise, sampling(config), config.task.name)
    print_once(headline([paired_row.row for paired_row in rows]))
    draw_policy_run(config.task, rows, expand(config.run_dir))
    print_once(f"figures and policy: {config.run_dir}")
    return rows


def learn(config: Config) -> tuple[LearnedPolicy, Denoise]:
    """The policy at the end of the best window of rewards, and its denoiser; resumes a run."""
    config = resolve(config)
    sharding.check_batch(config.prompts, sharding.make_mesh().size)
    check_prompts(config.task, "train", config.pool)
    start = load_start(config.policy, config.task)
    given = None if start is None else start_identity(start.params)
    with learning_run(config, "learn_policy", given=given) as (home, denoise):
        training = training_of(config, denoise)
        policy = training.initial_policy()
        training.train(policy, config, home, cli.REPORTER)
    params, step = trained_params(home.directory, policy.params)
    print_once(f"the policy of iteration {step}, the end of the best window of rewards, is used")
    policy = replace(policy, params=params, policy_temperature=config.policy_temperature)
    return policy, denoise


def training_of(config: Config, denoise: Denoise) -> RewardTraining:
    """What stays the same during the run."""
    return cli.select(RewardTraining, config, denoise=denoise, sampler=sampling(config))


if __name__ == "__main__":
    cli.main(Config, run, __doc__, PRESETS)
