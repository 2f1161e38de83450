"""Learn an unmasking policy from rewards, and compare it with the heuristic baselines.

Takes a trained denoiser (--denoiser RUN), which is not changed, or trains one. The policy may first
imitate another one (--warm_start.steps); then it learns from the correctness and speed of its own
rollouts (GRPO, arXiv:2512.09106). With --preset per-step each step has credit of its own, from branches
of the rollouts, and the price of a denoiser call is an input of the policy: one policy with one knob.
Writes a run directory with config.json, env.json, metrics.jsonl, checkpoints, best (the policy that is
used: at the end of the best window of rewards, or best on held-out prompts), samples.jsonl, table.json
and figures. The same command resumes a run that was interrupted or killed.
"""

from dataclasses import dataclass, field, replace

from experiments import _cli as cli
from experiments._cli.console import print_once
from experiments._cli.learning import LearningConfig, compare, compare_prices, learning_run
from mdm_jax import sharding
from mdm_jax.denoisers.base import Denoise
from mdm_jax.errors import MdmError, check_range
from mdm_jax.evals.paired import PairedRow
from mdm_jax.evals.plots import run_figures
from mdm_jax.evals.price_frontier import Frontiers
from mdm_jax.evals.sentences import headline
from mdm_jax.external_files import expand
from mdm_jax.policies.action_distributions import Independent
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.policies.networks.adaptive_network import AdaptiveConfig
from mdm_jax.policies.networks.confidence_network import ConfidenceConfig
from mdm_jax.rl.branch_objective import BranchObjective
from mdm_jax.rl.grpo import GrpoObjective
from mdm_jax.rl.learner import ExpertConfig
from mdm_jax.rl.warm_start import WarmStart
from mdm_jax.runs.adaptive import network_for
from mdm_jax.runs.identity import start_identity
from mdm_jax.runs.policies import PolicySpec, load_start, trained_params
from mdm_jax.runs.task_choice import with_data_dir
from mdm_jax.runs.trainings.branch_rewards import HELD_OUT_PROMPTS, BranchTraining
from mdm_jax.runs.trainings.rewards import RewardTraining
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import full_name
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
      branches: credit for each step, in place of GRPO and its settings policy, objective, warm_start,
        expert and collapse; None: GRPO.
      window: iterations over which the reward is averaged to find the best policy; with branches,
        updates between scores on held-out prompts.
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
    branches: cli.OptionalBranches = None
    network: cli.Fixed[AdaptiveConfig | None] = None
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
# one policy with a price
PER_STEP = replace(
    Config(),
    branches=BranchObjective(),
    optimizer=OptimizerConfig(learning_rate=5e-3, warmup=50, weight_decay=0.2, final_fraction=0.02),
    steps=1000,
    prompts=32,
    window=100,
    save_every=200,
    policy_temperature=0.0,
)
PRESETS = {"default": Config(), "paper": PUBLISHED, "per-step": PER_STEP}
OF_GRPO = ("policy", "objective", "warm_start", "expert", "collapse")


def resolve(config: Config) -> Config:
    """The config with everything that follows from other settings filled in."""
    task = with_data_dir(config.task, config.data_dir)
    window, steps = task.gen_length or task.length, config.policy.steps
    if steps is not None and not 1 <= steps <= window:
        raise MdmError(f"policy.steps {steps} exceeds the {window} positions of {task.name}")
    sampling(config).for_task(task).check(task.length)
    name = f"runs/learn_policy-{full_name(task)}"
    if config.branches is None:
        return replace(config, task=task, run_dir=config.run_dir or name)
    for setting in OF_GRPO:
        if getattr(config, setting) != getattr(PER_STEP, setting):
            raise MdmError(f"{setting} is a setting of GRPO: leave it out, or --preset per-step")
    check_range("branches.states", config.branches.states, 1, window)
    name, network = f"{name}-per-step", config.network or network_for(task)
    return replace(config, task=task, run_dir=config.run_dir or name, network=network)


def sampling(config: Config) -> SamplerConfig:
    """Sampler settings of training and evaluation."""
    return SamplerConfig(temperature=config.temperature, block_length=config.block_length)


def run(config: Config) -> list[PairedRow] | Frontiers:
    """Learn, compare, draw."""
    config = resolve(config)
    policy, denoise = learn(config)
    if config.branches is not None:
        prices = config.branches.prices
        found = compare_prices(config, policy, denoise, sampling(config), prices)
        run_figures.draw_rewarded_price_run(config.task, found, expand(config.run_dir))
        print_once(f"figures and policy: {config.run_dir}")
        return found
    rows = compare(config, [(policy, denoise)], denoise, sampling(config), config.task.name)
    print_once(headline([paired_row.row for paired_row in rows]))
    run_figures.draw_policy_run(config.task, rows, expand(config.run_dir))
    print_once(f"figures and policy: {config.run_dir}")
    return rows


def learn(config: Config) -> tuple[LearnedPolicy | AdaptivePolicy, Denoise]:
    """The policy at the end of the best window of rewards, or best on held-out prompts, and its
    denoiser; resumes a run.
    """
    config = resolve(config)
    sharding.check_batch(config.prompts, sharding.make_mesh().size)
    check_prompts(config.task, "train", config.pool)
    if config.branches is not None:
        return learn_by_branches(config)
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


def learn_by_branches(config: Config) -> tuple[AdaptivePolicy, Denoise]:
    """`learn` with credit for each step."""
    check_prompts(config.task, "heldout", HELD_OUT_PROMPTS)
    with learning_run(config, "learn_policy") as (home, denoise):
        training = cli.select(BranchTraining, config, denoise=denoise, sampler=sampling(config))
        policy = training.train(config, home, cli.REPORTER)
    return replace(policy, policy_temperature=config.policy_temperature), denoise


def training_of(config: Config, denoise: Denoise) -> RewardTraining:
    """What stays the same during the run."""
    return cli.select(RewardTraining, config, denoise=denoise, sampler=sampling(config))


if __name__ == "__main__":
    cli.main(Config, run, __doc__, PRESETS)
