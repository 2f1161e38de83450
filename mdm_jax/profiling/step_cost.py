"""Time of what training and sampling repeat: denoiser call, sampler step, update, GRPO iteration."""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mdm_jax.compiling import jit_update
from mdm_jax.denoisers.base import Bound, bind
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.diffusion.corruption import row_keys, stratified_times
from mdm_jax.diffusion.objectives import AnyOrder
from mdm_jax.keys import root_key
from mdm_jax.orders.variational.forms.max_normalised import MaxNormalised
from mdm_jax.orders.variational.loss import OrderBatch, OrderParts, init_order, order_loss
from mdm_jax.orders.variational.model import OrderModel
from mdm_jax.orders.variational.objective import OrderObjective
from mdm_jax.orders.variational.posterior import Scorer, ScorerConfig
from mdm_jax.policies.heuristics import TopConfidence
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.policies.networks.confidence_network import ConfidenceConfig, ConfidenceNetwork
from mdm_jax.policies.networks.policy_network import PolicyConfig, PolicyNetwork
from mdm_jax.profiling.timing import Job, compile_job, interleaved
from mdm_jax.rl.grpo import GrpoObjective
from mdm_jax.rl.learner import Learner, iterate
from mdm_jax.rl.rollouts import Prompts
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample
from mdm_jax.training.losses import CanvasIds, TokenBatch, denoising_loss
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import init_state, train_step
from mdm_jax.types import Count

Canvases = Int[Array, "batch length"]


class TimedJob(NamedTuple):
    """A job, how many repetitions of its step one run makes, and forward passes in each.

    A backward pass counts as two forward ones.
    """

    job: Job
    steps: int
    passes: int


class StepCost(NamedTuple):
    """Time of one step of a job, and the share of the peak matrix-product rate that it reaches."""

    name: str
    milliseconds: float
    tokens_per_second: float
    share_of_peak: float
    compile_seconds: float
    compilations: int

    def cells(self) -> dict[str, str]:
        """A line of a table, by column."""
        return {
            "": self.name,
            "ms": f"{self.milliseconds:.2f}",
            "tokens/s": f"{self.tokens_per_second:,.0f}",
            "% of measured peak": f"{100 * self.share_of_peak:.1f}",
            "compile s": f"{self.compile_seconds:.2f}",
            "compilations": str(self.compilations),
        }


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A transformer with random weights, and a batch of canvases that are all MASK.

    Attributes:
      model: the transformer.
      vocab: ids it can produce.
      length: positions of a canvas.
      batch_size: canvases.
      steps: sampler steps, each of which reveals length / steps positions; budget of the learned order
        and of every rollout.
      samples: paths per sequence in an order update, rollouts per prompt in a GRPO iteration; both
        have batch_size canvases in all.
    """

    model: TransformerConfig
    vocab: int
    length: int
    batch_size: int
    steps: int
    samples: int

    @property
    def ids(self) -> CanvasIds:
        return CanvasIds(self.vocab, self.vocab + 1)

    @property
    def canvases(self) -> Canvases:
        return jnp.full((self.batch_size, self.length), self.ids.mask)

    @property
    def module(self) -> Transformer:
        return Transformer(self.model, self.vocab)

    @cached_property
    def denoise(self) -> Bound:
        canvas = self.canvases[0]
        params = self.module.init(root_key(0), canvas, canvas != self.ids.pad)["params"]
        return bind(self.module, params)

    def forward_flops(self) -> float:
        """FLOPs of the matrix products in one call of the whole batch."""
        model, tokens = self.model, self.batch_size * self.length
        block = 4 * model.width**2 + 3 * model.width * model.mlp_width
        attention = 2 * self.length * model.width
        return 2.0 * tokens * (model.depth * (block + attention) + model.width * self.vocab)


def measure_steps(work: Workload, peak_flops: float, repeats: int) -> list[StepCost]:
    """The cost of every job of `timed_jobs`: medians of interleaved runs, compilation apart.

    Args:
      peak_flops: what the machine reaches in a matrix product, FLOP/s.
    """
    timed = timed_jobs(work)
    compiled = {name: compile_job(job.job) for name, job in timed.items()}
    times = interleaved({name: job.job for name, job in timed.items()}, repeats)
    tokens, flops = work.batch_size * work.length, work.forward_flops()
    costs = []
    for name, job in timed.items():
        seconds, first = times[name] / job.steps, compiled[name]
        share = job.passes * flops / seconds / peak_flops
        rates = 1e3 * seconds, tokens / seconds, share
        costs.append(StepCost(name, *rates, first.seconds, first.compilations))
    return costs


def timed_jobs(work: Workload) -> dict[str, TimedJob]:
    """What is timed, by name."""
    return {
        "denoiser call": TimedJob(denoiser_calls(work), work.steps, 1),
        "sampler step": TimedJob(_sampler(work), work.steps, 1),
        "training step": TimedJob(training_step(work), 1, 3),
        "order step": TimedJob(_order_step(work), 1, 3),
        "policy iteration": TimedJob(_policy_iteration(work), 1, work.steps),
    }


def denoiser_calls(work: Workload) -> Job:
    """As many sequential denoiser calls as the sampler makes, and nothing else."""

    @jax.jit
    def calls(denoise: Bound, canvases: Canvases) -> Canvases:
        def call(_: Count, canvases: Canvases) -> Canvases:
            logits = jax.vmap(denoise)(canvases, jnp.ones(canvases.shape, bool))
            # the next call waits for all logits of this one, and the canvas stays as it is
            return canvases + (jnp.max(logits) > 1e30).astype(canvases.dtype)

        return jax.lax.fori_loop(0, work.steps, call, canvases)

    canvases = work.canvases
    return lambda: calls(work.denoise, canvases)


def _sampler(work: Workload) -> Job:
    keys = row_keys(root_key(1), jnp.arange(work.batch_size))
    config = SamplerConfig(mask_id=work.ids.mask, pad_id=work.ids.pad, budget=work.steps)
    run = partial(sample, policy=TopConfidence(work.steps), config=config)
    canvases = work.canvases
    return lambda: run(keys, canvases, denoise=work.denoise).canvas


def training_step(work: Workload) -> Job:
    """One update on a batch."""
    optimizer = make_optimizer(OptimizerConfig(), 100)
    loss = partial(
        denoising_loss,
        module=work.module,
        objective=AnyOrder(),
        times=stratified_times,
        ids=work.ids,
    )
    step = jit_update(partial(train_step, loss=loss, optimizer=optimizer))
    batch = TokenBatch(jnp.zeros_like(work.canvases), jnp.ones(work.canvases.shape, bool))
    state = init_state(work.denoise.params, optimizer)
    return lambda: step(state, root_key(2), batch)[1]["nelbo_per_token"]


def _order_step(work: Workload) -> Job:
    """One update of posterior, policy and denoiser on as many canvases as a training step has."""
    model = OrderModel(MaxNormalised(), work.steps, work.ids.mask, work.ids.pad)
    scorer = Scorer(ScorerConfig(), work.vocab, work.length)
    parts = OrderParts(model, scorer, PolicyNetwork(PolicyConfig(), work.length, work.steps))
    params = init_order(parts, root_key(3), work.length, work.vocab)
    params["denoiser"] = work.denoise.params
    optimizer = make_optimizer(OptimizerConfig(), 100)
    objective = OrderObjective(samples=work.samples)
    loss = partial(order_loss, parts=parts, objective=objective, denoise=work.denoise)
    step = jit_update(partial(train_step, loss=loss, optimizer=optimizer))
    shape = work.batch_size // work.samples, work.length
    batch = OrderBatch(jnp.zeros(shape, jnp.int32), jnp.ones(shape, bool), jnp.zeros(shape[0]))
    state = init_state(params, optimizer)
    return lambda: step(state, root_key(4), batch)[1]["nelbo"]


def _policy_iteration(work: Workload) -> Job:
    """Rollouts, rewards and updates of the published confidence policy. Its bias keeps it from
    revealing anything, so that every rollout takes `steps` calls.
    """
    network = ConfidenceNetwork(ConfidenceConfig(bias=-30.0))
    logits, is_masked = jnp.zeros((work.length, work.vocab)), work.canvases[0] == 0
    features = network.featurize(logits, is_masked, jnp.asarray(work.steps))
    params = network.init(root_key(5), features)["params"]
    learner = Learner(
        policy=LearnedPolicy(network, params, work.steps),
        objective=GrpoObjective(group=work.samples),
        sampler=SamplerConfig(mask_id=work.ids.mask, pad_id=work.ids.pad, budget=work.steps),
        optimizer=make_optimizer(OptimizerConfig(), 100),
    )
    step = jax.jit(partial(iterate, learner=learner, verify=lambda canvas, _: canvas[0] == 0))
    state = init_state(params, learner.optimizer)
    prompts = Prompts(work.canvases[: work.batch_size // work.samples], ())
    return lambda: step(state, root_key(6), prompts, work.denoise)[1]["reward"]


def comparisons(costs: list[StepCost], work: Workload) -> str:
    """How the costs of `measure_steps` relate, a sentence per line."""
    call, step, training, order, iteration = (cost.milliseconds for cost in costs)
    return (
        f"sampler step / denoiser call: {step / call:.3f} (meant to stay below 1.1)\n"
        f"order step / training step: {order / training:.3f} (meant to stay below 1.2)\n"
        f"GRPO: {1e3 / iteration:.2f} iterations/s, {1e3 * work.batch_size / iteration:.1f} "
        f"rollouts/s, {100 * work.steps * call / iteration:.0f} % of the time in the denoiser"
    )
