"""Learn the order of generation by variational inference, and compare it with every basic policy.

Takes a trained denoiser (--denoiser RUN) or trains one, looks for a good static order to start from,
then learns a posterior, which sees the clean sequence, and a policy, which does not. Writes a run
directory with config.json, env.json, metrics.jsonl, start.json, checkpoints, samples.jsonl, table.json
and figures. The same command goes on where a killed run stopped.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import _cli as cli
from experiments import train_denoiser
from experiments._cli.console import print_once, progress
from experiments._cli.tables import print_paired_rows
from experiments.order_start import HELDOUT, InitConfig, prompted, static_order
from mdm_jax import sharding
from mdm_jax.denoisers.base import Denoise, hidden_width
from mdm_jax.evals.likelihood import heldout_likelihood
from mdm_jax.evals.matched import compare_at_equal_calls, evaluator_in
from mdm_jax.evals.paired import PairedRow
from mdm_jax.evals.plots.learned import draw_figures
from mdm_jax.orders.search import SearchConfig
from mdm_jax.orders.variational.evaluation import order_bound
from mdm_jax.orders.variational.forms.max_normalised import MaxNormalised
from mdm_jax.orders.variational.forms.plackett_luce import PlackettLuce
from mdm_jax.orders.variational.forms.sigmoid import SigmoidScores
from mdm_jax.orders.variational.loss import (
    OrderBatch,
    OrderObjective,
    OrderParts,
    bound_denoiser,
    init_order,
    order_loss,
)
from mdm_jax.orders.variational.posterior import ScorerConfig, start_scores
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.policies.networks.policy_network import PolicyConfig, start_table
from mdm_jax.runs.denoisers import exact_denoiser, load_denoiser
from mdm_jax.runs.directory import CHECKPOINTS, DENOISER, open_run
from mdm_jax.runs.json_files import write_json
from mdm_jax.runs.metrics import MetricsLog
from mdm_jax.runs.orders import order_parts
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.sudoku.task import Sudoku
from mdm_jax.training import checkpoints
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import TrainState, fit, init_state, train_step

AnyForm = MaxNormalised | SigmoidScores | PlackettLuce
EVALUATION_ONLY = (
    "examples",
    "eval_batch_size",
    "policy_temperature",
    "temperature",
    "heldout_rows",
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of learning an order.

    Attributes:
      task: what is generated.
      data_dir: where the task's files are, for tasks that need some.
      denoiser: run directory of a trained denoiser, or of a published checkpoint; None: train one into
        RUN_DIR/denoiser.
      oracle: exact conditionals instead of a trained denoiser, where the task can be listed.
      train: settings of that training; its task, data_dir, run_dir and seed are taken from here.
      run_dir: where everything is written; None: runs/learn_order-TASK-BUDGET.
      budget: most denoiser calls for one sequence.
      form: of the posterior, form:NAME on the command line.
      scorer: the posterior's network.
      policy: the policy's network and what it sees.
      start: where learning starts from.
      objective: what is optimised.
      joint: the denoiser learns as well.
      steps: updates.
      batch_size: sequences in each; each has `objective.samples` paths, one denoiser call per path.
      posterior_optimizer, policy_optimizer, denoiser_optimizer: one for each part.
      ema_decay: of the averaged weights, which are the ones evaluated and used.
      save_every: updates between checkpoints; the last update always has one.
      log_every: updates between rows of metrics.jsonl.
      heldout_rows: sequences of the held-out bound.
      examples: prompts that every policy completes.
      eval_batch_size: of generation.
      temperature: of the token draws.
      policy_temperature: of the learned policy; 0 takes the most probable set of positions.
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
    budget: int = 4
    form: AnyForm = field(default_factory=MaxNormalised)
    scorer: ScorerConfig = field(
        default_factory=lambda: ScorerConfig(width=32, heads=2, spread=0.1, conditioning="prompt")
    )
    policy: PolicyConfig = field(default_factory=lambda: PolicyConfig(width=32, heads=2))
    start: InitConfig = field(default_factory=InitConfig)
    objective: OrderObjective = field(
        default_factory=lambda: OrderObjective(samples=4, temperature=0.05, start_beta_kl=0.1)
    )
    joint: bool = False
    steps: int = 400
    batch_size: int = 64
    posterior_optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=2e-4, weight_decay=0.0)
    )
    policy_optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=2e-3, weight_decay=0.0)
    )
    denoiser_optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=3e-4)
    )
    ema_decay: float = 0.99
    save_every: int = 200
    log_every: int = 10
    heldout_rows: int = 256
    examples: int = 1024
    eval_batch_size: int = 512
    temperature: float = 1.0
    policy_temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("budget", "steps", "batch_size", "save_every", "log_every", "examples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.oracle and (self.joint or self.denoiser is not None or self.policy.hidden):
            raise ValueError(
                "exact conditionals (oracle) learn nothing (joint), need no run (denoiser) and have "
                "no hidden states (policy.hidden): leave the others out"
            )
        if self.heldout_rows < 2:
            raise ValueError(f"heldout_rows must be at least 2, got {self.heldout_rows}")


# the published recipe: no search, a posterior that sees the clean sequence, one temperature, eight paths
PLAIN = replace(
    Config(),
    start=InitConfig(search=SearchConfig(proposals=0)),
    scorer=ScorerConfig(width=32, heads=2, spread=0.1),
    objective=OrderObjective(predicted_nll=False),
    posterior_optimizer=OptimizerConfig(learning_rate=2e-3, weight_decay=0.0),
    batch_size=32,
)
PRESETS = {"default": Config(), "plain": PLAIN}


class Learned(NamedTuple):
    """What comes out: the policy, the denoiser it goes with, and the networks to look inside."""

    policy: LearnedPolicy
    denoise: Denoise
    base: Denoise  # the denoiser as it was before
    params: dict
    parts: OrderParts


def resolve(config: Config) -> Config:
    """The config with everything that follows from other settings filled in."""
    task = cli.with_data_dir(config.task, config.data_dir)
    name = f"runs/learn_order-{task.name}-{config.budget}"
    window = task.gen_length or task.length
    if not 1 <= config.budget <= window:
        raise ValueError(f"budget {config.budget} exceeds the {window} positions of {task.name}")
    return replace(config, task=task, run_dir=config.run_dir or name)


def run(config: Config) -> list[PairedRow]:
    """Learn, compare, draw."""
    config = resolve(config)
    directory = Path(config.run_dir)
    learned = learn(config)
    evaluator = evaluator_in(
        directory,
        config.task,
        learned.base,
        SamplerConfig(temperature=config.temperature),
        examples=config.examples,
        batch_size=config.eval_batch_size,
        seed=config.seed,
    )
    rows = compare_at_equal_calls(
        evaluator, [(learned.policy, learned.denoise)], config.seed, progress
    )
    print_paired_rows(
        rows, f"{config.task.name}, budget {config.budget}: {config.examples} prompts"
    )
    draw_figures(config.task, learned, rows, directory, config.objective.temperature)
    print_once(f"figures and policy: {directory}")
    return rows


def learn(config: Config) -> Learned:
    """Train to the end, from wherever the run directory is; report the held-out bound."""
    config, directory = resolve(config), Path(resolve(config).run_dir)
    open_run(directory, "learn_order", replace(config, run_dir=None), ignore=EVALUATION_ONLY)
    log = MetricsLog(directory)
    denoise = get_denoiser(config, directory)
    parts = order_parts(config.task, config.budget, config.form, config.scorer, config.policy)
    mesh = sharding.make_mesh()
    sharding.check_batch(config.batch_size, mesh.size)
    optimizer = order_optimizer(config)
    with checkpoints.open_manager(directory / CHECKPOINTS) as manager:
        fresh = manager.latest_step() is None
        state = init_state(start_params(config, parts, denoise, directory, fresh), optimizer)
        state = sharding.shard(jax.device_get(state), sharding.replicated(mesh))
        state = checkpoints.restore(manager, state)
        log.truncate_after(int(state.step))
        if int(state.step):
            print_once(f"going on from update {int(state.step)} of {directory}")
        state = _loop(config, parts, optimizer, denoise, state, mesh, manager, log)
    params = jax.tree.map(jnp.asarray, sharding.to_host(state.ema))
    learned = as_learned(config, parts, params, denoise)
    report(config, learned)
    return learned


def get_denoiser(config: Config, directory: Path) -> Denoise:
    """The denoiser of another run, exact conditionals, or one trained inside this run's directory."""
    if config.oracle:
        return exact_denoiser(config.task)
    if config.denoiser is not None:
        return load_denoiser(config.denoiser, config.task).denoise
    home = str(directory / DENOISER)
    train_denoiser.run(replace(config.train, task=config.task, run_dir=home, seed=config.seed))
    return load_denoiser(home, config.task).denoise


def start_params(
    config: Config, parts: OrderParts, denoise: Denoise, directory: Path, fresh: bool
) -> dict:
    """Parameters before the first update: at a searched static order, or at the Ancestral sampler."""
    task, k_init = config.task, jax.random.fold_in(jax.random.key(config.seed), 4)
    params = init_order(parts, k_init, task.length, task.vocabulary.size, hidden_width(denoise))
    if config.joint:
        params["denoiser"] = denoise.params
    if not fresh or not config.start.search.proposals or not parts.model.form.induces_order:
        return params
    order = jnp.asarray(
        static_order(
            config.start.search, task, config.seed, denoise, parts.model, directory / "start.json"
        )
    )
    temperature = float(config.objective.temperature_at(jnp.zeros(())))
    spacing = config.start.spacing * temperature
    return params | {
        "posterior": start_scores(params["posterior"], order, spacing),
        "policy": start_table(params["policy"], order, config.start.certainty),
    }


def order_optimizer(config: Config) -> optax.GradientTransformation:
    """Each part with its own optimiser."""
    parts = {"posterior": config.posterior_optimizer, "policy": config.policy_optimizer}
    if config.joint:
        parts["denoiser"] = config.denoiser_optimizer
    return optax.multi_transform(
        {name: make_optimizer(one, config.steps) for name, one in parts.items()},
        lambda params: {name: name for name in params},
    )


def _loop(
    config: Config,
    parts: OrderParts,
    optimizer: optax.GradientTransformation,
    denoise: Denoise,
    state: TrainState,
    mesh: jax.sharding.Mesh,
    manager: Any,
    log: MetricsLog,
) -> TrainState:
    """Updates with logging and checkpoints."""
    k_train = sharding.shard(
        jax.random.fold_in(jax.random.key(config.seed), 6), sharding.replicated(mesh)
    )

    @partial(jax.jit, donate_argnums=0)
    def update(state: TrainState, key: Any, batch: OrderBatch, denoise: Denoise) -> tuple:
        loss = partial(order_loss, parts=parts, objective=config.objective, denoise=denoise)
        return train_step(
            state, key, batch, loss=loss, optimizer=optimizer, ema_decay=config.ema_decay
        )

    def batch_at(index: int) -> OrderBatch:
        share = np.full(config.batch_size, index / config.steps, np.float32)
        batch = OrderBatch(*prompted(config.task, config.seed, index, config.batch_size), share)
        return sharding.shard(batch, sharding.by_row(mesh))

    shared = sharding.shard(denoise, sharding.replicated(mesh))
    step = lambda state, key, batch: update(state, key, batch, shared)  # noqa: E731
    with progress("learning the order", config.steps, int(state.step)) as advance:
        for done, now, metrics in fit(state, step, batch_at, k_train, config.steps):
            note, last = "", done == config.steps
            if last or done % config.log_every == 0:
                row = {name: float(value) for name, value in jax.device_get(metrics).items()}
                log.append(done, row)
                note = f"bound {row['nelbo']:.3f} nats"
            if last or done % config.save_every == 0:
                checkpoints.save(manager, now)
            advance(1, note)
            state = now
    return state


def as_learned(config: Config, parts: OrderParts, params: dict, denoise: Denoise) -> Learned:
    """Parameters as a policy and the denoiser that goes with it."""
    policy = LearnedPolicy(
        parts.network,
        params["policy"],
        config.budget,
        config.policy_temperature,
        family=parts.model.form.family,
    )
    return Learned(policy, bound_denoiser(params, denoise), denoise, params, parts)


def report(config: Config, learned: Learned) -> None:
    """The held-out order bound beside the vanilla one on the same sequences."""
    data = prompted(config.task, config.seed, HELDOUT + 2, config.heldout_rows)
    k_eval = jax.random.fold_in(jax.random.key(config.seed), 7)
    vocabulary = config.task.vocabulary
    bound = order_bound(
        k_eval,
        learned.params,
        data,
        learned.parts,
        learned.denoise,
        temperature=config.objective.temperature,
        eos_id=vocabulary.eos_id,
        batch_size=min(64, config.batch_size),  # that many fitted when learning
    )
    vanilla = heldout_likelihood(
        k_eval,
        learned.denoise,
        data,
        vocabulary,
        window=config.task.gen_length,
        batch_size=min(16, config.batch_size),
    )
    any_order = vanilla.nelbo_per_token * vanilla.tokens_per_sequence
    print_once(
        f"held-out bound in at most {config.budget} steps: {bound.nelbo:.3f} +- "
        f"{1.96 * bound.error:.3f} nats per sequence\n"
        f"  = {bound.token_nll:.3f} tokens + {bound.kl:.3f} KL(posterior || policy); without padding "
        f"{bound.content_token_nll:.3f} + {bound.content_kl:.3f}\n"
        f"  posterior entropy {bound.posterior_entropy:.3f} nats, {bound.steps_used:.2f} steps\n"
        f"  {any_order:.3f} nats is the bound of the same denoiser over all orders, one by one"
    )
    measured = bound._asdict() | {"any_order_nelbo": any_order}
    write_json(Path(config.run_dir) / "bound.json", measured)


if __name__ == "__main__":
    cli.main(Config, run, __doc__, PRESETS)
