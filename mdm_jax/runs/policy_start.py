"""The start of learning at the orders of a policy that `learn_order` has learned."""

from functools import partial
from typing import Any, NamedTuple

import jax

from mdm_jax.denoisers.base import Denoise
from mdm_jax.errors import MdmError
from mdm_jax.keys import Stream, stream
from mdm_jax.orders.fidelity.likelihood import follow_order
from mdm_jax.orders.variational.loss import OrderParts
from mdm_jax.orders.variational.start import InitConfig
from mdm_jax.runs.adaptive import best_within, forcing_for, load_adaptive
from mdm_jax.runs.config import RunConfig, read_config, read_task
from mdm_jax.runs.imitated_orders import (
    Followed,
    imitating_policy,
    imitating_posterior,
    sequences_to_follow,
)
from mdm_jax.runs.reporter import Progress
from mdm_jax.tasks.base import Task


def policy_run(run: str, task: Task) -> RunConfig:
    """The settings of a run of `learn_order` for this task.

    Raises:
      MdmError: it is another run.
    """
    config = read_config(run)
    if config["experiment"] != "learn_order" or read_task(run).name != task.name:
        raise MdmError(f"start.policy: {run} is no run of learn_order for {task.name}")
    return config


class PolicyStart(NamedTuple):
    """Posterior and policy at the orders that a policy with a price gives to clean sequences."""

    task: Task
    seed: int
    denoise: Denoise
    parts: OrderParts
    config: InitConfig

    def apply(
        self, params: dict[str, Any], temperature: float, progress: Progress
    ) -> dict[str, Any]:
        """The parameters with posterior and policy at the orders.

        Args:
          temperature: of the posterior at the first update.
          progress: shows the sequences that are followed.

        Raises:
          MdmError: as `policy_run`.
        """
        followed = self._follow(progress)
        spacing = self.config.spacing * temperature
        with progress("imitating the orders of the policy", 2) as advance:
            shared = self.parts, self.seed, self.config
            posterior, error = imitating_posterior(params["posterior"], followed, *shared, spacing)
            advance(1, f"scores off by {error:.2f} steps")
            policy = imitating_policy(params["policy"], followed, self.denoise, *shared)
            advance(1, "")
        return params | {"posterior": posterior, "policy": policy}

    def _follow(self, progress: Progress) -> Followed:
        """The clean sequences, and the order that the policy gives to each of them."""
        run, budget = self.config.policy, self.parts.model.budget
        config = policy_run(run, self.task)
        policy = load_adaptive(run, config, self.task)
        policy = best_within(run, policy, self.denoise, budget)
        forcing = forcing_for(self.task, budget, config["block_length"])
        follow = jax.jit(partial(follow_order, policy=policy, forcing=forcing))
        batches = sequences_to_follow(self.task, self.seed, self.config)
        key, orders = stream(self.seed, Stream.ORDER_SEARCH), []
        with progress("following the policy's orders", len(batches)) as advance:
            for part, batch in enumerate(batches):
                keys = jax.random.split(jax.random.fold_in(key, part), len(batch.tokens))
                orders.append(follow(keys, batch, denoise=self.denoise).step)
                advance(1, f"price {float(policy.price):.3f}")
        return Followed(batches, orders)
