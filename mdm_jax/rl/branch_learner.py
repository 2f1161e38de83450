"""Learning from rewards with credit for each step: compiled updates, with prompts split over devices."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool

from mdm_jax import sharding
from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.errors import MdmError, check_range
from mdm_jax.orders.fidelity.exploration import draw_prices
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.rl.branch_objective import Attempts, BranchObjective, Verified, branch_loss
from mdm_jax.rl.branches import attempt
from mdm_jax.rl.compiled import Iteration, Verifier
from mdm_jax.rl.rollouts import Prompts
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.training.state import Metrics, Params, TrainState, train_step
from mdm_jax.types import RowKey


@dataclass(frozen=True, kw_only=True)
class BranchLearner:
    """What stays the same from one update to the next.

    Attributes:
      policy: the policy that learns; its parameters are replaced by those of the state.
      objective: what is rewarded, and what is compared.
      sampler: settings of the rollouts, complete.
      optimizer: of the policy's parameters.
      steps: updates in all.

    Raises:
      MdmError: a cache, a sampler that may leave positions masked, or more states than calls.
    """

    policy: AdaptivePolicy
    objective: BranchObjective
    sampler: SamplerConfig
    optimizer: optax.GradientTransformation
    steps: int

    def __post_init__(self) -> None:
        if self.sampler.cache is not None or not self.sampler.commit:
            raise MdmError("credit for each step needs a sampler without a cache, which commits")
        check_range("branches.states", self.objective.states, 1, self.sampler.budget)

    def attempts(
        self, params: Params, key: RowKey, canvases: Any, denoise: Denoise, mesh: jax.sharding.Mesh
    ) -> tuple[Attempts, Metrics]:
        """Sets tried with these parameters, and what they cost. Each device has its own prompts."""
        k_price, k_rows = jax.random.split(key)
        keys = row_keys(k_rows, jnp.arange(len(canvases)))
        prices = draw_prices(k_price, len(canvases), self.objective.prices)

        def on_device(shared: tuple, *batched: Any) -> tuple[Attempts, Array]:
            policy = replace(self.policy, params=shared[0])
            return attempt(*batched, policy, shared[1], self.sampler, self.objective)

        split = sharding.device_map(on_device, mesh)
        found, calls = split((params["policy"], denoise), keys, canvases, prices)
        return found, {"calls": jnp.sum(calls, dtype=jnp.float32)}

    def learn(
        self,
        state: TrainState,
        key: RowKey,
        attempts: Attempts,
        correct: Bool[Array, "prompts states tried"],
        devices: int,
    ) -> tuple[TrainState, Metrics]:
        """One update. Metrics are means over states of the branches that the mode goes all along."""
        rewards = attempts.rewards(correct, self.objective)
        share = 1.0 - state.step / self.steps / self.objective.anneal
        loss = partial(
            branch_loss,
            policy=self.policy,
            objective=self.objective,
            entropy=self.objective.entropy * jnp.maximum(share, 0.0),
            devices=devices,
        )
        state, metrics = train_step(
            state,
            key,
            Verified(attempts, rewards),
            loss=loss,
            optimizer=self.optimizer,
            ema_decay=self.objective.ema_decay,
        )
        mode, total = self.objective.draws, jnp.maximum(jnp.sum(attempts.weight), 1.0)
        shown = {"reward": rewards, "accuracy": correct, "nfe": attempts.calls}
        means = {name: jnp.sum(x[..., mode] * attempts.weight) / total for name, x in shown.items()}
        differ = (jnp.ptp(rewards, axis=-1) > 0) & (attempts.weight > 0)
        means["states_that_differ"] = jnp.sum(differ) / jnp.maximum(jnp.sum(attempts.weight > 0), 1)
        return state, metrics | means


def compiled_branches(
    learner: BranchLearner, denoise: Denoise, verifier: Verifier, mesh: jax.sharding.Mesh
) -> Iteration:
    """An update for prompts on the host, as `compiled.compiled_iteration`."""
    make = _one_program if verifier.pure_verifier else _two_programs
    return make(learner, denoise, verifier, mesh)


def _one_program(
    learner: BranchLearner, denoise: Denoise, verifier: Verifier, mesh: jax.sharding.Mesh
) -> Iteration:
    @partial(jax.jit, donate_argnums=0)
    def program(
        state: TrainState, key: RowKey, prompts: Prompts, denoise: Denoise
    ) -> tuple[TrainState, Metrics]:
        k_try, k_update = jax.random.split(key)
        found, cost = learner.attempts(state.params, k_try, prompts.canvases, denoise, mesh)
        correct = verified(verifier.verify, found, prompts.references)
        state, metrics = learner.learn(state, k_update, found, correct, mesh.size)
        return state, metrics | cost

    def update(state: TrainState, key: RowKey, prompts: Prompts) -> tuple[TrainState, Metrics]:
        return program(state, key, sharding.shard(prompts, sharding.by_row(mesh)), denoise)

    return update


def verified(
    verify: Callable[[Any, Any], Bool[Array, ""]], attempts: Attempts, references: Any
) -> Bool[Array, "prompts states tried"]:
    """Which finished branches are correct, in pure JAX."""
    of_prompt = jax.vmap(jax.vmap(verify, (0, None)), (0, None))
    return jax.vmap(of_prompt)(attempts.canvas, references)


def _two_programs(
    learner: BranchLearner, denoise: Denoise, verifier: Verifier, mesh: jax.sharding.Mesh
) -> Iteration:
    generate = jax.jit(partial(learner.attempts, mesh=mesh))
    learn = jax.jit(partial(learner.learn, devices=mesh.size), donate_argnums=0)
    by_row = sharding.by_row(mesh)

    def update(state: TrainState, key: RowKey, prompts: Prompts) -> tuple[TrainState, Metrics]:
        k_try, k_update = jax.random.split(key)
        canvases = sharding.shard(prompts.canvases, by_row)
        found, cost = generate(state.params, k_try, canvases, denoise)
        correct = verified_on_host(verifier, sharding.to_host(found), prompts.references)
        correct = sharding.shard(correct, by_row)
        state, metrics = learn(state, k_update, found, correct)
        return state, metrics | cost

    return update


def verified_on_host(
    verifier: Verifier, attempts: Attempts, references: Any
) -> Bool[np.ndarray, "prompts states tried"]:
    """Which finished branches are correct, each verified once; False where nothing is learned."""
    same = np.asarray(attempts.same)
    first = (same == np.arange(same.shape[-1])) & (np.asarray(attempts.weight) > 0)[..., None]
    found = np.zeros(same.shape, bool)
    for place in zip(*np.nonzero(first), strict=True):
        reference = jax.tree.map(lambda leaf, prompt=place[0]: leaf[prompt], references)
        found[place] = verifier.verify(np.asarray(attempts.canvas[place]), reference)
    return np.take_along_axis(found, same, axis=-1)
