"""Policies with a price: their shape for a task, and loading them from run directories."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from mdm_jax.external_files import expand
from mdm_jax.keys import root_key
from mdm_jax.orders.fidelity.teacher_forcing import Forcing
from mdm_jax.policies.adaptive import AdaptivePolicy, init_adaptive
from mdm_jax.policies.networks.adaptive_network import (
    AdaptiveConfig,
    AdaptiveNetwork,
    ConfidenceStart,
    EntropyStart,
)
from mdm_jax.runs.description import from_json
from mdm_jax.runs.directory import BEST
from mdm_jax.tasks.base import Task
from mdm_jax.training.checkpoints import restore_ema

SHORT = 64  # positions up to which the network tells them apart by default


def network_for(task: Task) -> AdaptiveConfig:
    """The usual shape: dense layers over a short canvas, one transformer block over a long one."""
    window, start = task.gen_length or task.length, EntropyStart(eagerness=0.6)
    if window <= SHORT:
        return AdaptiveConfig(depth=0, max_length=window, start=start)
    return AdaptiveConfig(start=start)


def forcing_for(task: Task, budget: int, block_length: int | None = None) -> Forcing:
    """How clean sequences of a task are followed, at most `budget` denoiser calls for each."""
    ids = task.vocabulary
    return Forcing(ids.mask_id, ids.pad_id, budget, task.gen_length, block_length, ids.eos_id)


def fresh_policy(network: AdaptiveConfig, task: Task, key: jax.Array) -> AdaptivePolicy:
    """The policy before training: the heuristic that it starts at."""
    return init_adaptive(AdaptiveNetwork(network), key, task.gen_length or task.length)


def load_adaptive(run: str | Path, config: dict[str, Any], task: Task) -> AdaptivePolicy:
    """The policy of a `learn_order` run, at the parameters that were best on held-out sequences.

    Args:
      config: the run's config.json.
      task: the run's.

    Raises:
      MdmError: no readable checkpoint.
    """
    described = config["network"]
    if described is None:
        network = network_for(task)
    else:
        start = from_json(described["start"], EntropyStart, ConfidenceStart)
        network = from_json(described | {"start": start}, AdaptiveConfig)
    policy = fresh_policy(network, task, root_key(0))
    return best_policy(run, policy)


def best_policy(run: str | Path, policy: AdaptivePolicy) -> AdaptivePolicy:
    """A policy of this shape with the best parameters of a run so far."""
    params, _ = restore_ema(expand(run) / BEST, {"policy": policy.params})
    return replace(policy, params=params["policy"])
