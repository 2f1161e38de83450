"""Policies from run directories, learned by a bound (learn_order) or from rewards (learn_policy)."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from mdm_jax.denoisers.base import Denoise
from mdm_jax.policies.action_distributions import Categorical, Independent, PlackettLuceStop
from mdm_jax.policies.learned import LearnedPolicy, Network
from mdm_jax.policies.networks.confidence_network import ConfidenceConfig, ConfidenceNetwork
from mdm_jax.policies.networks.policy_network import PolicyConfig, PolicyNetwork
from mdm_jax.runs.loading import (
    CHECKPOINTS,
    from_json,
    hidden_width,
    load_order,
    load_run,
    read_config,
)
from mdm_jax.tasks.base import Task
from mdm_jax.training.checkpoints import restore_ema

BEST = "best"  # checkpoint of the best window of rewards
AnyFamily = Independent | PlackettLuceStop | Categorical


@dataclass(frozen=True, kw_only=True)
class PolicySpec:
    """What a policy is before it learns from rewards.

    Attributes:
      network: its shape, and what it sees: the published one, which sees confidences and takes any
        length, or the one of learn_order, which also sees margins, entropies and positions.
      family: how its utilities become a set of positions.
      steps: denoiser calls it may take; None: one for each position.
      candidate_top_k: only that many positions, the most confident ones, can be chosen; None: any.
      start: run directory of learn_order or learn_policy: its policy learns on, and what is said
        here of network, family and steps is not looked at.
    """

    network: ConfidenceConfig = field(default_factory=lambda: ConfidenceConfig(width=32, mlp=128))
    family: AnyFamily = field(default_factory=PlackettLuceStop)
    steps: int | None = None
    candidate_top_k: int | None = None
    start: str | None = None


def build(design: PolicySpec, task: Task, denoise: Denoise, key: jax.Array) -> LearnedPolicy:
    """The policy before the first update."""
    if design.start is not None:
        return replace(load_policy(design.start, task), candidate_top_k=design.candidate_top_k)
    window, width = task.gen_length or task.length, hidden_width(denoise)
    steps = window if design.steps is None else design.steps
    network = make_network(design.network, window, steps)

    def init(key: jax.Array) -> Any:
        hidden = jnp.zeros((window, width)) if design.network.hidden else None
        logits, nothing = jnp.zeros((window, task.vocabulary.size)), jnp.zeros((window,), bool)
        features = network.featurize(logits, nothing, jnp.asarray(1), hidden)
        return network.init(key, features, method="utilities")["params"]

    params = jax.jit(init)(key)
    return LearnedPolicy(
        network, params, steps, family=design.family, candidate_top_k=design.candidate_top_k
    )


def make_network(config: ConfidenceConfig | PolicyConfig, window: int, steps: int) -> Network:
    """The network of a shape."""
    if isinstance(config, ConfidenceConfig):
        return ConfidenceNetwork(config)
    return PolicyNetwork(config, window, steps)


def load_policy(run: str | Path, task: Task) -> LearnedPolicy:
    """The policy that a run has learned, with the knobs that the run compared it at.

    Args:
      task: what it will be used on: unless its steps were set, it may take one per position.

    Raises:
      ValueError: no such run, no readable checkpoint, or the run learned no policy.
    """
    config = read_config(run)
    if "form" in config:
        return load_order(run)
    if "design" not in config:
        raise ValueError(f"{run} holds no policy: give a directory of learn_order or learn_policy")
    described = dict(config["design"])
    network, family = described["network"], described["family"]
    described |= {
        "network": from_json(network, ConfidenceConfig, PolicyConfig),
        "family": from_json(family, Independent, PlackettLuceStop, Categorical),
    }
    design = from_json(described, PolicySpec)
    denoise = load_run(run).denoise if design.network.hidden else None
    policy = build(design, task, denoise, jax.random.key(0))
    best = Path(run) / BEST
    home = best if best.is_dir() and any(best.iterdir()) else Path(run) / CHECKPOINTS
    params, _ = restore_ema(home, policy.params)
    return replace(policy, params=params, policy_temperature=config["policy_temperature"])
