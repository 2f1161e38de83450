"""Learn an order that adapts to the prompt, by its fidelity to sequential decoding: one policy, one knob.

Takes a trained denoiser (--denoiser RUN) or trains one, then learns which positions to reveal together
from clean sequences and denoiser calls alone. The knob is the price of a denoiser call in nats: the
policy at all prices is compared with densely swept heuristic baselines on the same prompts. Writes a run
directory with config.json, env.json, metrics.jsonl, checkpoints, best (the parameters that were best on
held-out sequences), samples.jsonl, table.json and figures. The same command resumes a run that was
interrupted or killed.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from experiments import _cli as cli
from experiments._cli.console import print_once
from experiments._cli.learning import LearningConfig, compare_prices, learning_run
from mdm_jax.denoisers.base import Denoise
from mdm_jax.errors import MdmError, check_range
from mdm_jax.evals.plots.run_figures import draw_price_run
from mdm_jax.evals.price_frontier import Frontiers
from mdm_jax.external_files import expand
from mdm_jax.orders.fidelity.config import ReplayConfig
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.policies.networks.adaptive_network import AdaptiveConfig
from mdm_jax.runs.adaptive import network_for
from mdm_jax.runs.task_choice import with_data_dir
from mdm_jax.runs.trainings.fidelity_order import FidelityTraining
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import full_name
from mdm_jax.tasks.checks import check_clean
from mdm_jax.tasks.splits import MOST
from mdm_jax.training.optimizers import OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class Config(LearningConfig):
    """Settings of learning an order that adapts.

    Attributes:
      network: shape of policy and critic; None: dense layers over a short canvas, a transformer block
        over a long one.
      pair_costs: rank of what reveals cost one another; 0: positions are revealed independently.
      replay: prices, and how calls are replayed.
      batch_size: sequences in each update.
      budget: most denoiser calls for a sequence that is learned from.
      within_budget: the policy is told how many calls are left, learns to make the most of `budget` of
        them, and never takes more.
      block_length: semi-autoregressive generation in blocks of this many positions; None: all at once.
      cache: of the comparison, as of the sampler; for published checkpoints in blocks.
      policy_optimizer, critic_optimizer: one for each network.
      ema_decay: of the averaged weights, at each gradient step.
      eval_every: updates between scores on held-out sequences.
      heldout_rows: held-out sequences.
    """

    evaluation_only: ClassVar = (*LearningConfig.evaluation_only, "temperature", "cache")
    steps: int = 300
    save_every: int = 100
    examples: int = 512
    policy_temperature: cli.Fixed[float] = 0.0
    network: AdaptiveConfig | None = None
    pair_costs: int = 0
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    batch_size: int = 64
    budget: int = 8
    within_budget: bool = False
    block_length: int | None = None
    cache: Literal["prefix", "dual"] | None = None
    policy_optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            learning_rate=2e-3, warmup=50, weight_decay=0.0, final_fraction=0.02
        )
    )
    critic_optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            learning_rate=2e-3, warmup=50, weight_decay=0.0, final_fraction=0.02
        )
    )
    ema_decay: float = 0.995
    eval_every: int = 100
    heldout_rows: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("budget", "batch_size", "eval_every", "heldout_rows"):
            check_range(name, getattr(self, name), 1, MOST)
        check_range("pair_costs", self.pair_costs, 0)
        check_range("ema_decay", self.ema_decay, 0, below=1)
        if self.replay.capacity % self.batch_size:
            raise MdmError(
                f"replay.capacity {self.replay.capacity} is no multiple of batch_size {self.batch_size}"
            )


PRESETS = {"default": Config()}


def resolve(config: Config) -> Config:
    """The config with everything that follows from other settings filled in."""
    task = with_data_dir(config.task, config.data_dir)
    network = network_for(task) if config.network is None else config.network
    network = replace(network, pair_costs=config.pair_costs or network.pair_costs)
    window = task.gen_length or task.length
    if config.budget > window:
        raise MdmError(f"budget {config.budget} exceeds the {window} positions of {task.name}")
    if window > (network.max_length or window):
        raise MdmError(f"{task.name} has {window} positions: raise max_length {network.max_length}")
    sampling(config).for_task(task).check(task.length)
    name = config.run_dir or f"runs/learn_order-{full_name(task)}"
    return replace(config, task=task, run_dir=name, network=network)


def sampling(config: Config) -> SamplerConfig:
    """Sampler settings of the evaluation."""
    return SamplerConfig(
        temperature=config.temperature, block_length=config.block_length, cache=config.cache
    )


def run(config: Config) -> Frontiers:
    """Learn, compare, draw."""
    config = resolve(config)
    policy, denoise = learn(config)
    found = compare_prices(config, policy, denoise, sampling(config), config.replay.prices)
    directory = expand(config.run_dir)
    draw_price_run(config.task, found, directory)
    print_once(f"figures and policy: {directory}")
    return found


def learn(config: Config, denoise: Denoise | None = None) -> tuple[AdaptivePolicy, Denoise]:
    """The policy that was best on held-out sequences, and its denoiser; resumes a run.

    Args:
      denoise: the denoiser that the config names, where it is loaded already.
    """
    config = resolve(config)
    check_clean(config.task)
    with learning_run(config, "learn_order", denoise) as (home, denoise):
        training = cli.select(FidelityTraining, config, denoise=denoise)
        return training.train(config, home, cli.REPORTER), denoise


if __name__ == "__main__":
    cli.main(Config, run, __doc__, PRESETS)
