"""Accuracy against cost: generate once, store, score from the store."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int

from mdm_jax.denoisers.base import Denoise
from mdm_jax.evals.generate import Generated, Parallel, generate
from mdm_jax.evals.intervals import beta_interval
from mdm_jax.evals.store import Generations, Sample, SampleStore
from mdm_jax.policies.base import Policy
from mdm_jax.policies.switch import SwitchPolicy
from mdm_jax.runs.description import describe
from mdm_jax.sampling.config import FROM_TASK, SamplerConfig
from mdm_jax.tasks.base import Examples, Task, TextTask
from mdm_jax.types import RowKey

ALWAYS_SHOWN = ("temperature", "budget")
NEVER_SHOWN = (*FROM_TASK, "record")  # the task is known, and a trace changes no generation


@dataclass(frozen=True)
class Row:
    """One line of a table: a policy at one setting, with everything needed to judge the number."""

    policy: str
    settings: dict[str, Any]
    correct: int
    total: int
    accuracy: float
    low: float  # 95 % interval, Beta(1, 1) posterior
    high: float
    nfe: float  # mean denoiser calls per sequence,
    nfe_min: int
    nfe_max: int
    passes: float  # and the calls that a batch executed, mean over batches
    sequences_per_second: float | None  # compilation left out; None where nothing else was timed

    @property
    def label(self) -> str:
        """What its generations are called in the store."""
        return " ".join([self.policy, *(f"{k}={v}" for k, v in self.settings.items())])


class Outcome(NamedTuple):
    """A table row and, for paired comparisons, which examples were solved."""

    row: Row
    correct: Bool[np.ndarray, " n"]


def verify_all(
    task: Task, canvases: Int[np.ndarray, "n length"], references: Any
) -> Bool[np.ndarray, " n"]:
    """Which finished canvases solve their prompt."""
    if task.pure_verifier:
        return np.asarray(
            _verifier(task)(jnp.asarray(canvases), jax.tree.map(jnp.asarray, references))
        )
    one = [task.verify(c, jax.tree.map(lambda x: x[i], references)) for i, c in enumerate(canvases)]  # noqa: B023
    return np.asarray(one, dtype=bool)


@lru_cache(maxsize=8)
def _verifier(task: Task) -> Callable:
    return jax.jit(jax.vmap(task.verify))


def evaluate(
    key: RowKey,
    task: Task,
    examples: Examples,
    denoise: Denoise,
    policy: Policy,
    config: SamplerConfig,
    store: SampleStore,
    *,
    batch_size: int = 256,
    parallel: Parallel = "vmap",
    on_batch: Callable[[int], None] = lambda rows: None,
) -> Outcome:
    """Generate what the store lacks for this policy and these settings, then score the store.

    Args:
      key: canvas i uses fold_in(key, i); part of the settings only through the caller's seed.
      store: where generations are kept.
      on_batch: told the number of rows after each batch.

    Raises:
      ValueError: no examples, or the batch does not fit the devices.
    """
    on_batch(len(done_before(examples, policy, config, store)))
    generate_missing(
        key,
        task,
        examples,
        denoise,
        policy,
        config,
        store,
        batch_size=batch_size,
        parallel=parallel,
        on_batch=on_batch,
    )
    return score(task, examples, policy, config, store.read(label_of(policy, config)))


def generate_missing(
    key: RowKey,
    task: Task,
    examples: Examples,
    denoise: Denoise,
    policy: Policy,
    config: SamplerConfig,
    store: SampleStore,
    *,
    batch_size: int,
    parallel: Parallel,
    on_batch: Callable[[int], None],
) -> None:
    """The first half of `evaluate`: complete the prompts that the store lacks at these settings."""
    label = label_of(policy, config)
    done = done_before(examples, policy, config, store)
    todo = np.setdiff1d(np.arange(len(examples.canvases)), done)
    batches = generate(
        key,
        examples.canvases,
        denoise,
        policy,
        config,
        batch_size=batch_size,
        parallel=parallel,
        indices=todo,
    )
    for number, batch in enumerate(batches):
        store.append(to_samples(label, task, examples, batch, timed=number > 0))
        on_batch(len(batch.indices))


def done_before(
    examples: Examples, policy: Policy, config: SamplerConfig, store: SampleStore
) -> Int[np.ndarray, " n"]:
    """The prompts that the store has completed at these settings."""
    done = np.array(sorted(store.done(label_of(policy, config))), dtype=int)
    return done[done < len(examples.canvases)]


def to_samples(
    label: str, task: Task, examples: Examples, batch: Generated, timed: bool
) -> list[Sample]:
    """A batch as records of the store; the first one's time includes compilation and is left out."""
    rollout = batch.rollout
    seconds = batch.seconds / len(rollout.nfe) if timed else None
    columns = zip(batch.indices, rollout.canvas, rollout.nfe, rollout.revealed_at, strict=True)
    return [
        Sample(
            setting=label,
            index=index,
            tokens=tokens,
            nfe=nfe,
            passes=batch.passes,
            seconds=seconds,
            revealed_at=steps,
            **text_fields(task, tokens, jax.tree.map(lambda x, i=index: x[i], examples.references)),
        )
        for index, tokens, nfe, steps in columns
    ]


def text_fields(
    task: Task, canvas: Int[np.ndarray, " length"], reference: Any
) -> dict[str, str | None]:
    """What a record says in words: prompt, response, answer and reference where the task has them."""
    if isinstance(task, TextTask):
        return task.text_record(canvas, reference)._asdict()
    return {"text": task.decode(canvas)}


def score(
    task: Task, examples: Examples, policy: Policy, config: SamplerConfig, found: Generations
) -> Outcome:
    """The table row of stored generations."""
    here = found.index < len(examples.canvases)
    found = Generations(*(np.asarray(column)[here] for column in found))
    correct = verify_all(task, found.tokens, take(examples.references, found.index))
    right, total = int(np.sum(correct)), len(correct)
    interval = beta_interval(right, total)
    timed = found.seconds[np.isfinite(found.seconds)]
    row = Row(
        policy=type(plain(policy)).__name__,
        settings=describe_settings(policy, config),
        correct=right,
        total=total,
        accuracy=right / total,
        low=interval.low,
        high=interval.high,
        nfe=float(np.mean(found.nfe)),
        nfe_min=int(np.min(found.nfe)),
        nfe_max=int(np.max(found.nfe)),
        passes=float(np.mean(found.passes)),
        sequences_per_second=float(1 / np.mean(timed)) if len(timed) else None,
    )
    return Outcome(row, correct)


def plain(policy: Policy) -> Policy:
    """The policy that acts, where it is one of a `Choice`."""
    return policy.chosen if isinstance(policy, SwitchPolicy) else policy


def label_of(policy: Policy, config: SamplerConfig) -> str:
    """What a policy at its settings is called in the store: equal labels, equal generations."""
    settings = describe_settings(policy, config)
    return " ".join([type(plain(policy)).__name__, *(f"{k}={v}" for k, v in settings.items())])


def take(references: Any, rows: Int[np.ndarray, " n"]) -> Any:
    """The references of some examples."""
    return jax.tree.map(lambda x: x[rows], references)


def describe_settings(policy: Policy, config: SamplerConfig) -> dict[str, Any]:
    """The knobs of the policy and what of the sampler's settings is not the plain case."""
    policy = plain(policy)
    knobs = {f.name: getattr(policy, f.name) for f in fields(policy) if f.repr}
    weights = {k: v for k, v in knobs.items() if isinstance(v, dict) or np.ndim(v) > 0}
    shown = {
        k: v if isinstance(v, int | float | str) else str(v)
        for k, v in knobs.items()
        if k not in weights
    }
    if weights:
        described = json.dumps(describe(weights), sort_keys=True)
        shown["weights"] = hashlib.sha256(described.encode()).hexdigest()[:8]
    return shown | _describe_sampler(config)


def _describe_sampler(config: SamplerConfig) -> dict[str, Any]:
    """Temperature, budget, and every other setting that is not at its default."""
    settings = {f.name: getattr(config, f.name) for f in fields(config)}
    defaults = {f.name: f.default for f in fields(config)}
    changed = [n for n, value in settings.items() if value != defaults[n] and n not in NEVER_SHOWN]
    return {name: settings[name] for name in dict.fromkeys((*ALWAYS_SHOWN, *changed))}
