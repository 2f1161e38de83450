"""What calls, steps, updates and an iteration of learning from rewards cost on this machine.

All times are medians of interleaved repetitions, compilation apart. The share of the ceiling is the
FLOPs of the transformer's matrix products over the time, against a large matrix product of the same
type measured in the same run.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import jax
import jax.numpy as jnp
from rich.table import Table

from experiments import _cli as cli
from experiments._cli.console import console
from mdm_jax.denoisers.base import Bound, bind
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.diffusion.corruption import row_keys, stratified_times
from mdm_jax.diffusion.objectives import AnyOrder
from mdm_jax.orders.variational.elbo import OrderModel
from mdm_jax.orders.variational.forms.max_normalised import MaxNormalised
from mdm_jax.orders.variational.loss import (
    OrderBatch,
    OrderObjective,
    OrderParts,
    init_order,
    order_loss,
)
from mdm_jax.orders.variational.posterior import Scorer, ScorerConfig
from mdm_jax.policies.heuristics import TopConfidence
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.policies.networks.confidence_network import ConfidenceConfig, ConfidenceNetwork
from mdm_jax.policies.networks.policy_network import PolicyConfig, PolicyNetwork
from mdm_jax.profiling.timing import compile_job, interleaved, matmul_ceiling
from mdm_jax.rl.grpo import GrpoObjective
from mdm_jax.rl.learner import Learner, iterate
from mdm_jax.rl.rollouts import Prompts
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample
from mdm_jax.training.losses import CanvasIds, TokenBatch, denoising_loss
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import init_state, train_step


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the benchmark.

    Attributes:
      model: the transformer.
      vocab: ids it can produce.
      length: positions of a canvas, all MASK.
      batch_size: canvases.
      steps: sampler steps, each of which reveals length / steps positions; budget of the learned order
        and of every rollout.
      samples: paths of each sequence in an order step, which has batch_size paths in all and in which
        the denoiser learns as well, so that its passes are those of a training step; and rollouts of
        each prompt in an iteration of learning from rewards, which has batch_size in all.
      repeats: of every measurement.
    """

    model: TransformerConfig = field(default_factory=lambda: TransformerConfig(width=256, depth=4))
    vocab: int = 1024
    length: int = 128
    batch_size: int = 16
    steps: int = 8
    samples: int = 8
    repeats: int = 5

    def __post_init__(self) -> None:
        if min(self.vocab, self.length, self.batch_size, self.repeats) < 1:
            raise ValueError("vocab, length, batch_size and repeats must be at least 1")
        if not 1 <= self.steps <= self.length:
            raise ValueError(f"steps must be between 1 and length {self.length}, got {self.steps}")
        if self.samples < 2 or self.batch_size % self.samples:
            raise ValueError(
                f"samples must be at least 2 and divide batch_size {self.batch_size}, got {self.samples}"
            )


@dataclass(frozen=True)
class Measured:
    """One line of the table."""

    name: str
    milliseconds: float
    tokens_per_second: float
    share_of_ceiling: float
    compile_seconds: float
    compilations: int


def run(config: Config) -> list[Measured]:
    """Measure, print, return the lines."""
    ids = CanvasIds(config.vocab, config.vocab + 1)
    module = Transformer(config.model, config.vocab)
    canvases = jnp.full((config.batch_size, config.length), ids.mask)
    params = module.init(jax.random.key(0), canvases[0], canvases[0] != ids.pad)["params"]
    jobs = {
        "denoiser call": (_bare_calls(config, bind(module, params), canvases), config.steps, 1),
        "sampler step": (_sampler(config, bind(module, params), canvases, ids), config.steps, 1),
        "training step": (_training(module, params, canvases, ids), 1, 3),
        "order step": (_order_step(config, module, params, ids), 1, 3),
        "policy iteration": (
            _policy_iteration(config, bind(module, params), canvases, ids),
            1,
            config.steps,
        ),
    }
    compiled = {name: compile_job(job[0]) for name, job in jobs.items()}
    ceiling = matmul_ceiling(config.model.dtype, config.repeats)
    times = interleaved({name: job[0] for name, job in jobs.items()}, config.repeats)
    flops = forward_flops(config)
    tokens = config.batch_size * config.length
    rows = []
    for name, (_, calls, passes) in jobs.items():
        seconds = times[name] / calls
        share = passes * flops / seconds / ceiling
        rows.append(Measured(name, 1e3 * seconds, tokens / seconds, share, *compiled[name][:2]))
    _print(config, rows, ceiling, flops)
    return rows


def forward_flops(config: Config) -> float:
    """FLOPs of the matrix products in one call of the whole batch."""
    model, tokens = config.model, config.batch_size * config.length
    block = 4 * model.width**2 + 3 * model.width * model.mlp_width
    attention = 2 * config.length * model.width
    return 2.0 * tokens * (model.depth * (block + attention) + model.width * config.vocab)


def _bare_calls(config: Config, denoise: Bound, canvases: jax.Array) -> Callable[[], jax.Array]:
    """As many calls of the denoiser as the sampler makes, one after another, and nothing else."""

    @jax.jit
    def calls(denoise: Bound, canvases: jax.Array) -> jax.Array:
        def call(_: int, canvases: jax.Array) -> jax.Array:
            logits = jax.vmap(denoise)(canvases, jnp.ones(canvases.shape, bool))
            # the next call waits for all logits of this one, and the canvas stays as it is
            return canvases + (jnp.max(logits) > 1e30).astype(canvases.dtype)

        return jax.lax.fori_loop(0, config.steps, call, canvases)

    return lambda: calls(denoise, canvases)


def _sampler(
    config: Config, denoise: Bound, canvases: jax.Array, ids: CanvasIds
) -> Callable[[], jax.Array]:
    keys = row_keys(jax.random.key(1), jnp.arange(config.batch_size))
    settings = SamplerConfig(mask_id=ids.mask, pad_id=ids.pad, budget=config.steps)
    run = partial(sample, policy=TopConfidence(config.steps), config=settings)
    return lambda: run(keys, canvases, denoise=denoise).canvas


def _training(
    module: Transformer, params: object, canvases: jax.Array, ids: CanvasIds
) -> Callable[[], jax.Array]:
    optimizer = make_optimizer(OptimizerConfig(), 100)
    loss = partial(
        denoising_loss, module=module, objective=AnyOrder(), times=stratified_times, ids=ids
    )
    step = jax.jit(partial(train_step, loss=loss, optimizer=optimizer))
    batch = TokenBatch(jnp.zeros_like(canvases), jnp.ones(canvases.shape, bool))
    state = init_state(params, optimizer)
    return lambda: step(state, jax.random.key(2), batch)[1]["nelbo_per_token"]


def _order_step(
    config: Config, module: Transformer, params: object, ids: CanvasIds
) -> Callable[[], jax.Array]:
    """One update of posterior, policy and denoiser on as many canvases as a training step has."""
    model = OrderModel(MaxNormalised(), config.steps, ids.mask, ids.pad)
    scorer = Scorer(ScorerConfig(), config.vocab, config.length)
    network = PolicyNetwork(PolicyConfig(), config.length, config.steps)
    parts = OrderParts(model, scorer, network)
    everything = init_order(parts, jax.random.key(3), config.length, config.vocab)
    everything["denoiser"] = params
    optimizer = make_optimizer(OptimizerConfig(), 100)
    loss = partial(
        order_loss,
        parts=parts,
        objective=OrderObjective(samples=config.samples),
        denoise=bind(module, params),
    )
    step = jax.jit(partial(train_step, loss=loss, optimizer=optimizer))
    rows = config.batch_size // config.samples
    shape = (rows, config.length)
    batch = OrderBatch(jnp.zeros(shape, jnp.int32), jnp.ones(shape, bool), jnp.zeros(rows))
    state = init_state(everything, optimizer)
    return lambda: step(state, jax.random.key(4), batch)[1]["nelbo"]


def _policy_iteration(
    config: Config, denoise: Bound, canvases: jax.Array, ids: CanvasIds
) -> Callable[[], jax.Array]:
    """Rollouts, rewards and updates of the published confidence policy. It is made too shy to reveal
    anything, so that every rollout takes `config.steps` calls.
    """
    network = ConfidenceNetwork(ConfidenceConfig(bias=-30.0))
    features = network.featurize(
        jnp.zeros((config.length, config.vocab)), canvases[0] == 0, jnp.asarray(config.steps)
    )
    policy = LearnedPolicy(
        network, network.init(jax.random.key(5), features)["params"], config.steps
    )
    learner = Learner(
        policy=policy,
        objective=GrpoObjective(group=config.samples),
        sampler=SamplerConfig(mask_id=ids.mask, pad_id=ids.pad, budget=config.steps),
        optimizer=make_optimizer(OptimizerConfig(), 100),
    )
    step = jax.jit(partial(iterate, learner=learner, verify=lambda canvas, _: canvas[0] == 0))
    state = init_state(policy.params, learner.optimizer)
    prompts = Prompts(canvases[: config.batch_size // config.samples], ())
    return lambda: step(state, jax.random.key(6), prompts, denoise)[1]["reward"]


def _print(config: Config, rows: list[Measured], ceiling: float, flops: float) -> None:
    device = jax.devices()[0].device_kind
    title = (
        f"{device}, width {config.model.width}, depth {config.model.depth}, vocab {config.vocab}, "
        f"{config.batch_size} x {config.length} tokens, {config.model.dtype}: "
        f"{flops / 1e9:.2f} GFLOP per call, ceiling {ceiling / 1e9:,.0f} GFLOP/s"
    )
    table = Table(title=title, title_justify="left")
    for name in ("", "ms", "tokens/s", "% of ceiling", "compile s", "compilations"):
        table.add_column(name, justify="left" if not name else "right")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.milliseconds:.2f}",
            f"{row.tokens_per_second:,.0f}",
            f"{100 * row.share_of_ceiling:.1f}",
            f"{row.compile_seconds:.2f}",
            str(row.compilations),
        )
    console.print(table)
    ratio = rows[1].milliseconds / rows[0].milliseconds
    console.print(f"sampler step / denoiser call: {ratio:.3f} (meant to stay below 1.1)")
    ratio = rows[3].milliseconds / rows[2].milliseconds
    console.print(f"order step / training step: {ratio:.3f} (meant to stay below 1.2)")
    seconds, calls = rows[4].milliseconds / 1e3, config.steps * rows[0].milliseconds / 1e3
    console.print(
        f"learning from rewards: {1 / seconds:.2f} iterations/s, {config.batch_size / seconds:.1f} "
        f"rollouts/s, {100 * calls / seconds:.0f} % of the time in the denoiser"
    )


PRESETS = {
    "default": Config(),
    "tiny": replace(Config(), model=TransformerConfig(), vocab=4, length=16, batch_size=256),
}

if __name__ == "__main__":
    cli.main(Config, run, __doc__, PRESETS)
