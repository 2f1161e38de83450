"""Imitation before the first reward."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import jax

from experiments import _cli as cli
from experiments._cli.console import progress
from mdm_jax import sharding
from mdm_jax.denoisers.base import Denoise
from mdm_jax.policies import heuristics
from mdm_jax.rl.imitation import Imitation, imitate
from mdm_jax.rl.learner import Learner
from mdm_jax.rl.rollouts import Prompts
from mdm_jax.tasks.base import Examples
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import TrainState, fit, init_state


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Imitation before the first reward: cheap, and a baseline of its own.

    Attributes:
      steps: updates; 0: none.
      teacher: whom to imitate.
      final: reveal what already equals the teacher's final answer, instead of what it reveals
        (Learn2PD; a teacher that reveals one position at a time gives the most labels).
      learning_rate: peak.
    """

    steps: int = 0
    teacher: cli.AnyHeuristic = field(default_factory=lambda: heuristics.ConfidenceThreshold(0.9))
    final: bool = False
    learning_rate: float = 1e-3


def imitated(
    settings: WarmStart,
    learner: Learner,
    optimizer: OptimizerConfig,
    denoise: Denoise,
    prompts_at: Callable[[int], Examples],
    key: jax.Array,
) -> TrainState:
    """A state before the first iteration whose policy has imitated the teacher."""
    optimizer = make_optimizer(
        replace(optimizer, learning_rate=settings.learning_rate), settings.steps
    )
    mesh = sharding.make_mesh()
    imitation = Imitation(
        policy=learner.policy,
        teacher=settings.teacher,
        sampler=learner.sampler,
        optimizer=optimizer,
        final=settings.final,
    )
    update = jax.jit(partial(imitate, imitation=imitation))

    def batch_at(index: int) -> Prompts:
        canvases = prompts_at(index).canvases
        return sharding.shard(Prompts(canvases, ()), sharding.by_row(mesh))

    step = lambda state, key, batch: update(state, key, batch, denoise)  # noqa: E731
    imitating = init_state(learner.policy.params, optimizer)
    with progress("imitating", settings.steps) as advance:
        for _, now, metrics in fit(imitating, step, batch_at, key, settings.steps):
            advance(1, f"{float(metrics['imitation_nll']):.3f} nats per step")
            params = now.params
    return init_state(params, learner.optimizer)
