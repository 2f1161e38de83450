"""An iteration as compiled programs, with the prompts split over devices."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Bool, Int

from mdm_jax import sharding
from mdm_jax.denoisers.base import Denoise
from mdm_jax.rl.learner import Learner, iterate, reinforce
from mdm_jax.rl.rollouts import Prompts
from mdm_jax.training.state import Metrics, TrainState
from mdm_jax.types import RowKey

Iteration = Callable[[TrainState, RowKey, Prompts], tuple[TrainState, Metrics]]


@runtime_checkable
class Verifier(Protocol):
    """What learning needs of a task; see `mdm_jax.tasks.base.Task`."""

    pure_verifier: bool  # whether `verify` is pure JAX

    def verify(self, canvas: Any, reference: Any) -> Any: ...


def compiled_iteration(
    learner: Learner, denoise: Denoise, verifier: Verifier, mesh: jax.sharding.Mesh
) -> Iteration:
    """`iterate` for prompts on the host.

    A verifier in pure JAX makes it one program. Otherwise rollouts and updates are two programs, and
    in between the finished canvases are verified on the host.
    """
    make = _one_program if verifier.pure_verifier else _two_programs
    return make(replace(learner, devices=mesh.size), denoise, verifier, sharding.by_row(mesh))


def _one_program(
    learner: Learner, denoise: Denoise, verifier: Verifier, by_row: jax.sharding.Sharding
) -> Iteration:
    program = jax.jit(partial(iterate, learner=learner, verify=verifier.verify), donate_argnums=0)

    def iteration(state: TrainState, key: RowKey, prompts: Prompts) -> tuple[TrainState, Metrics]:
        return program(state, key, sharding.shard(prompts, by_row), denoise)

    return iteration


def _two_programs(
    learner: Learner, denoise: Denoise, verifier: Verifier, by_row: jax.sharding.Sharding
) -> Iteration:
    generate, update = jax.jit(learner.rollouts), jax.jit(partial(reinforce, learner=learner))

    def iteration(state: TrainState, key: RowKey, prompts: Prompts) -> tuple[TrainState, Metrics]:
        k_rollout, k_update = jax.random.split(key)
        on_device = sharding.shard(Prompts(prompts.canvases, ()), by_row)
        rollout = generate(state.params, k_rollout, on_device, denoise)
        correct = verify_groups(verifier, sharding.to_host(rollout.canvas), prompts.references)
        correct = sharding.shard(correct, by_row)
        return update(state, k_update, rollout, correct, on_device.canvases, denoise=denoise)

    return iteration


def verify_groups(
    verifier: Verifier, canvases: Int[np.ndarray, "prompts group length"], references: Any
) -> Bool[np.ndarray, "prompts group"]:
    """Which finished canvases are correct, each group with the reference of its prompt."""
    found = []
    for index, group in enumerate(canvases):
        reference = jax.tree.map(lambda leaf, index=index: leaf[index], references)
        found.append([verifier.verify(canvas, reference) for canvas in group])
    return np.array(found, dtype=bool)
