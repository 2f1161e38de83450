"""What generations are called in the store: the policy and every setting that they depend on."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import jax
import numpy as np

from mdm_jax.policies.base import Policy
from mdm_jax.policies.switch import SwitchPolicy
from mdm_jax.policies.tempered import Tempered
from mdm_jax.runs.description import digest
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Task

ALWAYS_SHOWN = ("temperature", "budget")
DRAW = "draw"  # of the generations of a prompt, where it is not the first


def label_of(policy: str, settings: Mapping[str, Any]) -> str:
    """A policy's name and settings in one line."""
    return " ".join([policy, *(f"{name}={value}" for name, value in settings.items())])


def is_repeat(label: str) -> bool:
    """Whether the generations of a label are a second draw or a later one of their prompts."""
    return f" {DRAW}=" in label


def acting(policy: Policy) -> Policy:
    """The policy that acts, where it is one member of a `SwitchPolicy`."""
    return policy.chosen if isinstance(policy, SwitchPolicy) else policy


def describe_policy(policy: Policy) -> dict[str, Any]:
    """What is shown of a policy: scalar knobs by name; all arrays together as a digest, `weights`."""
    policy = acting(policy)
    if isinstance(policy, Tempered):
        name = {"base": type(policy.base).__name__}
        return name | describe_policy(policy.base) | {"token_temperature": policy.token_temperature}
    knobs = {f.name: getattr(policy, f.name) for f in fields(policy) if f.repr}
    weights = {k: v for k, v in knobs.items() if _has_arrays(v)}
    shown = {k: _scalar(v) for k, v in knobs.items() if k not in weights}
    return shown | ({"weights": digest(weights, 8)} if weights else {})


def _has_arrays(value: Any) -> bool:
    return any(np.ndim(leaf) > 0 for leaf in jax.tree.leaves(value))


def _scalar(value: Any) -> int | float | str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return value if isinstance(value, int | float | str) else str(value)


def describe_sampler(config: SamplerConfig, task: Task) -> dict[str, Any]:
    """Temperature, budget, and every other setting that is not what the task has by default.

    Recording a trace changes no generation.
    """
    given = {f.name: getattr(config, f.name) for f in fields(config) if f.name != "record"}
    plain = SamplerConfig().for_task(task)
    changed = [name for name, value in given.items() if value != getattr(plain, name)]
    return {name: given[name] for name in dict.fromkeys((*ALWAYS_SHOWN, *changed))}
