"""A policy that imitates another one before it learns from rewards."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import jax

from mdm_jax import sharding
from mdm_jax.denoisers.base import Denoise
from mdm_jax.errors import check_range
from mdm_jax.policies.heuristics import ConfidenceThreshold
from mdm_jax.policies.kinds import AnyHeuristic
from mdm_jax.rl.imitation import Imitation, imitate
from mdm_jax.rl.learner import Learner
from mdm_jax.rl.rollouts import Prompts
from mdm_jax.training.loop import Services, fit
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import Metrics, Params, TrainState, init_state
from mdm_jax.types import RowKey

PROMPTS_FROM = 10**9  # its prompts are those of iterations from here on


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Imitation of a teacher before a policy learns from rewards.

    Attributes:
      steps: updates; 0: no imitation.
      teacher: the policy to imitate.
      final: imitate the teacher's final answer: reveal every position whose proposed token equals it
        (Learn2PD). A teacher that reveals one position per step gives the most labels.
      learning_rate: peak.
    """

    steps: int = 0
    teacher: AnyHeuristic = field(default_factory=lambda: ConfidenceThreshold(0.9))
    final: bool = False
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 0)
        check_range("learning_rate", self.learning_rate, above=0)


def warm_start(
    settings: WarmStart,
    learner: Learner,
    optimizer: OptimizerConfig,
    denoise: Denoise,
    prompts_at: Callable[[int], Prompts],
    key: RowKey,
    services: Services,
) -> Params:
    """Parameters of the learner's policy after `settings.steps` updates towards the teacher.

    Args:
      optimizer: its settings, but for the learning rate.
      prompts_at: the prompts of an iteration of learning from rewards.
      services: see `fit`.
    """
    optimizer, mesh = replace(optimizer, learning_rate=settings.learning_rate), sharding.make_mesh()
    imitation = Imitation(
        policy=learner.policy,
        teacher=settings.teacher,
        sampler=learner.sampler,
        optimizer=make_optimizer(optimizer, settings.steps),
        final=settings.final,
        devices=mesh.size,
    )
    program = jax.jit(partial(imitate, imitation=imitation))
    by_row = sharding.by_row(mesh)

    def update(state: TrainState, key: RowKey, prompts: Prompts) -> tuple[TrainState, Metrics]:
        return program(state, key, prompts, denoise)

    def batch_at(index: int) -> Prompts:
        prompts = Prompts(prompts_at(PROMPTS_FROM + index).canvases, ())
        return sharding.shard(prompts, by_row)

    state = init_state(learner.policy.params, imitation.optimizer)
    return fit(state, update, batch_at, key, steps=settings.steps, services=services).params
