"""Learn the order of generation by variational inference, and compare it with the heuristic baselines.

Takes a trained denoiser (--denoiser RUN) or trains one, and searches for good static orders, of all
prompts and of single ones, of which every prompt chooses one (or follows the policy of a learn_order
run, --start.policy RUN). From there it learns a posterior, whose input is the clean sequence, and a
policy, whose input is not. Writes a run directory with config.json, env.json, metrics.jsonl, start.json
(of a search), checkpoints, bound.json, samples.jsonl, table.json and figures. The same command resumes a
run that was interrupted or killed.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from experiments import _cli as cli
from experiments._cli.console import print_once
from experiments._cli.learning import LearningConfig, compare, learning_run
from mdm_jax import sharding
from mdm_jax.denoisers.base import Denoise
from mdm_jax.errors import MdmError, check_range
from mdm_jax.evals.paired import PairedRow
from mdm_jax.evals.plots.run_figures import draw_order_run
from mdm_jax.external_files import expand
from mdm_jax.orders.prompt_search import PromptSearch
from mdm_jax.orders.search import SearchConfig
from mdm_jax.orders.variational.forms import AnyForm, MaxNormalised
from mdm_jax.orders.variational.objective import OrderObjective
from mdm_jax.orders.variational.posterior import ScorerConfig
from mdm_jax.orders.variational.start import InitConfig
from mdm_jax.policies.networks.policy_network import PolicyConfig
from mdm_jax.runs.json_files import write_json
from mdm_jax.runs.orders import LearnedOrder, order_parts
from mdm_jax.runs.policy_start import policy_run
from mdm_jax.runs.task_choice import with_data_dir
from mdm_jax.runs.training import run_updates
from mdm_jax.runs.trainings.variational_order import VariationalTraining
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import full_name
from mdm_jax.tasks.checks import check_clean
from mdm_jax.tasks.splits import MOST
from mdm_jax.training.optimizers import OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class Config(LearningConfig):
    """Settings of learning an order.

    Attributes:
      budget: most denoiser calls for one sequence.
      form: of the posterior, form:NAME on the command line.
      scorer: the posterior's network.
      policy: the policy's network and its features.
      start: where learning starts from.
      objective: what is optimised.
      joint: fine-tune the denoiser jointly.
      batch_size: sequences in each update; each has `objective.samples` paths, one denoiser call per
        path.
      posterior_optimizer, policy_optimizer, denoiser_optimizer: one for each part.
      ema_decay: of the averaged weights, which are the ones evaluated and used.
      heldout_rows: sequences of the held-out bound.
    """

    evaluation_only: ClassVar = (*LearningConfig.evaluation_only, "temperature", "heldout_rows")
    steps: int = 400
    save_every: int = 200
    policy_temperature: float = 0.0
    budget: int = 4
    form: AnyForm = field(default_factory=MaxNormalised)
    scorer: ScorerConfig = field(
        default_factory=lambda: ScorerConfig(width=32, heads=2, spread=0.1, conditioning="prompt")
    )
    policy: PolicyConfig = field(
        default_factory=lambda: PolicyConfig(width=32, heads=2, depth=0, canvas=256)
    )
    start: InitConfig = field(
        default_factory=lambda: InitConfig(
            search=SearchConfig(proposals=600, sequences=48, chains=24),
            by_prompt=True,
            prompt_search=PromptSearch(
                prompts=96, search=SearchConfig(proposals=300, chains=1, sequences=24)
            ),
        )
    )
    objective: OrderObjective = field(
        default_factory=lambda: OrderObjective(samples=4, temperature=0.05)
    )
    joint: bool = False
    batch_size: int = 64
    posterior_optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=2e-4, weight_decay=0.0)
    )
    policy_optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=2e-4, weight_decay=0.0)
    )
    denoiser_optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=3e-4)
    )
    ema_decay: float = 0.99
    heldout_rows: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low in (("budget", 1), ("batch_size", 1), ("heldout_rows", 2)):
            check_range(name, getattr(self, name), low, MOST)
        check_range("ema_decay", self.ema_decay, 0, below=1)
        if self.oracle and (self.joint or self.policy.hidden):
            raise MdmError("--oracle has no weights for --joint and no --policy.hidden states")


# the published recipe: no search, a posterior of the clean sequence, one temperature, eight paths
PLAIN = replace(
    Config(),
    start=InitConfig(search=SearchConfig(proposals=0)),
    scorer=ScorerConfig(width=32, heads=2, spread=0.1),
    objective=OrderObjective(predicted_nll=False),
    policy=PolicyConfig(width=32, heads=2),
    posterior_optimizer=OptimizerConfig(learning_rate=2e-3, weight_decay=0.0),
    policy_optimizer=OptimizerConfig(learning_rate=2e-3, weight_decay=0.0),
    batch_size=32,
)
PRESETS = {"default": Config(), "plain": PLAIN}


def resolve(config: Config) -> Config:
    """The config with everything that follows from other settings filled in."""
    task = with_data_dir(config.task, config.data_dir)
    window = task.gen_length or task.length
    if config.budget > window:
        raise MdmError(f"budget {config.budget} exceeds the {window} positions of {task.name}")
    name = f"runs/learn_variational_order-{full_name(task)}-{config.budget}"
    return replace(config, task=task, run_dir=config.run_dir or name)


def run(config: Config) -> list[PairedRow]:
    """Learn, compare, draw."""
    config = resolve(config)
    learned, directory = learn(config), expand(config.run_dir)
    title = f"{config.task.name}, budget {config.budget}"
    sampling = SamplerConfig(temperature=config.temperature)
    rows = compare(config, [(learned.policy, learned.denoise)], learned.base, sampling, title)
    draw_order_run(config.task, learned, rows, directory, config.objective.temperature)
    print_once(f"figures and policy: {directory}")
    return rows


def learn(config: Config, denoise: Denoise | None = None) -> LearnedOrder:
    """Learn to the end, from wherever the run directory is; print and keep the held-out bound.

    Args:
      denoise: the denoiser that the config names, where it is loaded already.
    """
    config = resolve(config)
    sharding.check_batch(config.batch_size, sharding.make_mesh().size)
    check_clean(config.task)
    if config.start.policy is not None:
        policy_run(config.start.policy, config.task)  # refused before anything is trained
    parts = order_parts(
        config.task, config.budget, config.form, config.scorer, config.policy, config.start
    )
    with learning_run(config, "learn_variational_order", denoise) as (home, denoise):
        training = cli.select(VariationalTraining, config, denoise=denoise, parts=parts)
        cli.REPORTER.say(training.calls(home).summary())
        state = training.initial_state(home, cli.REPORTER.progress)
        state = run_updates(config, home, state, training.updates(), cli.REPORTER)
    learned = training.learned(state)
    report(config, training, learned)
    return learned


def report(config: Config, training: VariationalTraining, learned: LearnedOrder) -> None:
    """Write and print the held-out bound, beside the any-order bound on the same sequences."""
    found = training.bounds(learned)
    write_json(expand(config.run_dir) / "bound.json", found.as_json())
    cli.REPORTER.say(f"at most {config.budget} steps, {found.summary(config.task)}")


if __name__ == "__main__":
    cli.main(Config, run, __doc__, PRESETS)
