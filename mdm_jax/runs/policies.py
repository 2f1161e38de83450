"""Building a policy that learns from rewards, and loading learned policies from run directories."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from mdm_jax.denoisers.base import Denoise, hidden_width
from mdm_jax.errors import MdmError, check_range
from mdm_jax.external_files import expand
from mdm_jax.keys import root_key
from mdm_jax.policies.action_distributions import Categorical, Independent, PlackettLuceStop
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.policies.learned import LearnedPolicy, Network
from mdm_jax.policies.networks.confidence_network import ConfidenceConfig, ConfidenceNetwork
from mdm_jax.policies.networks.policy_network import PolicyConfig, PolicyNetwork
from mdm_jax.policies.pairwise.predicted import PredictedPairs
from mdm_jax.runs.adaptive import load_adaptive
from mdm_jax.runs.config import read_config, read_task
from mdm_jax.runs.denoisers import denoiser_shapes, load_denoiser
from mdm_jax.runs.description import from_json
from mdm_jax.runs.directory import BEST, CHECKPOINTS
from mdm_jax.runs.orders import described_parts, order_params, order_policy
from mdm_jax.runs.pairs import load_pairs
from mdm_jax.tasks.base import Task
from mdm_jax.training.checkpoints import restore_ema
from mdm_jax.training.state import Params

FromRun = LearnedPolicy | AdaptivePolicy | PredictedPairs
AnyFamily = Independent | PlackettLuceStop | Categorical


@dataclass(frozen=True, kw_only=True)
class PolicySpec:
    """A policy before it learns from rewards.

    Attributes:
      network: its shape and its features: the published one, which reads confidences and takes any
        length, or the one of learn_variational_order, which also reads margins, entropies and positions.
      family: how its utilities become a set of positions.
      steps: denoiser calls it may take; None: one for each position.
      candidate_top_k: only that many positions, the most confident ones, can be chosen; None: any.
      start: run directory of learn_variational_order or learn_policy whose policy learning starts
        from; its network, family and steps replace the ones given here.
    """

    network: ConfidenceConfig = field(default_factory=lambda: ConfidenceConfig(width=32, mlp=128))
    family: AnyFamily = field(default_factory=PlackettLuceStop)
    steps: int | None = None
    candidate_top_k: int | None = None
    start: str | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "candidate_top_k"):
            check_range(name, getattr(self, name), 1)


def build_policy(
    spec: PolicySpec, task: Task, denoise: Denoise | None, key: jax.Array
) -> LearnedPolicy:
    """The policy before the first update.

    Args:
      denoise: what it will be used with; only needed for the width of its hidden states.
    """
    if (start := load_start(spec, task)) is not None:
        return replace(start, candidate_top_k=spec.candidate_top_k)
    window, width = task.gen_length or task.length, hidden_width(denoise)
    steps = window if spec.steps is None else spec.steps
    network = make_network(spec.network, window, steps)

    def init(key: jax.Array) -> Any:
        hidden = jnp.zeros((window, width)) if spec.network.hidden else None
        logits, nothing = jnp.zeros((window, task.vocabulary.size)), jnp.zeros((window,), bool)
        features = network.featurize(logits, nothing, jnp.asarray(1), hidden)
        return network.init(key, features, method="utilities")["params"]

    params = jax.jit(init)(key)
    return LearnedPolicy(
        network, params, steps, family=spec.family, candidate_top_k=spec.candidate_top_k
    )


def load_start(spec: PolicySpec, task: Task) -> LearnedPolicy | None:
    """The policy that learning starts from, if another run has to give it.

    Raises:
      MdmError: as `load_policy`, or the policy has a price or is for canvases of another shape.
    """
    if spec.start is None:
        return None
    policy = load_policy(spec.start, task)
    if not isinstance(policy, LearnedPolicy):
        raise MdmError(f"{spec.start} holds a {type(policy).__name__}: GRPO does not start from it")
    check_shape(policy, spec.start, task)
    return policy


def check_shape(policy: FromRun, run: str | Path, task: Task) -> None:
    """Raise MdmError where the policy of a run is not for canvases of this shape."""
    learned_on, asked = _shape(read_task(run)), _shape(task)
    if not policy.network.any_length and learned_on != asked:
        raise MdmError(f"{run} learned the order of {learned_on}, not of {asked}")


def _shape(task: Task) -> str:
    """What the shape of a policy's network depends on, as text."""
    window = task.gen_length or task.length
    return f"{task.name} ({window} of {task.length} positions, {task.vocabulary.size} ids)"


def make_network(config: ConfidenceConfig | PolicyConfig, window: int, steps: int) -> Network:
    """The network of a shape."""
    if isinstance(config, ConfidenceConfig):
        return ConfidenceNetwork(config)
    return PolicyNetwork(config, window, steps)


def load_policy(run: str | Path, task: Task) -> FromRun:
    """The policy that a run has learned, at the policy temperature that the run evaluated it with.

    Args:
      run: run directory of `learn_order`, `learn_variational_order`, `learn_policy` or `learn_pairs`.
      task: what it will be used on: a policy from rewards whose steps were not set may take one
        denoiser call per position.

    Raises:
      MdmError: no such run, no readable checkpoint, or the run learned no policy.
    """
    config = read_config(run)
    match config["experiment"]:
        case "learn_variational_order":
            return _load_from_order(run, config)
        case "learn_policy" if config.get("branches"):
            return load_adaptive(run, config, read_task(run))
        case "learn_policy":
            return _load_from_rewards(run, config, task)
        case "learn_order":
            return load_adaptive(run, config, read_task(run))
        case "learn_pairs":
            return load_pairs(run, config)
    raise MdmError(
        f"{run} holds no policy: give a directory of learn_order, learn_variational_order, learn_policy "
        "or learn_pairs"
    )


def _load_from_order(run: str | Path, config: dict[str, Any]) -> LearnedPolicy:
    before = denoiser_shapes(run, config)
    params, _ = order_params(run, config, before.task, before.denoise)
    parts = described_parts(config, before.task)
    return order_policy(parts, params, config["policy_temperature"])


def _load_from_rewards(run: str | Path, config: dict[str, Any], task: Task) -> LearnedPolicy:
    described = dict(config["policy"])
    network, family = described["network"], described["family"]
    described |= {
        "network": from_json(network, ConfidenceConfig, PolicyConfig),
        "family": from_json(family, Independent, PlackettLuceStop, Categorical),
    }
    spec = from_json(described, PolicySpec)
    denoise = load_denoiser(run).denoise if spec.network.hidden else None
    policy = build_policy(spec, task, denoise, root_key(0))
    params, _ = trained_params(run, policy.params)
    return replace(policy, params=params, policy_temperature=config["policy_temperature"])


def trained_params(run: str | Path, like: Params) -> tuple[Params, int]:
    """The policy's parameters at the end of the best window of rewards, and their iteration; those of
    the latest checkpoint if no window is complete.
    """
    best = expand(run) / BEST
    has_best = best.is_dir() and any(best.iterdir())
    return restore_ema(best if has_best else expand(run) / CHECKPOINTS, like)
