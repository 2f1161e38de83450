"""Accuracy against cost: generate once, store, score from the store."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int

from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.evals.intervals import beta_interval
from mdm_jax.evals.store import Generations, Sample, SampleStore
from mdm_jax.policies.base import Policy, stack
from mdm_jax.policies.choice import Choice
from mdm_jax.sampling.loop import SamplerConfig, check_window, sample, sweep
from mdm_jax.tasks.base import Examples, Task
from mdm_jax.training.parallel import (
    by_row,
    check_batch,
    device_map,
    fetch,
    make_mesh,
    place,
    pmap_map,
    replicated,
    vmap_map,
)
from mdm_jax.types import Rollout, RowKey

Parallel = Literal["vmap", "device_map", "pmap"]


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
    sequences_per_second: float  # compilation left out


class Generated(NamedTuple):
    """One batch of finished canvases."""

    indices: Int[np.ndarray, " batch"]
    rollout: Rollout  # host arrays
    passes: int
    seconds: float


class Outcome(NamedTuple):
    """A table row and, for paired comparisons, which examples were solved."""

    row: Row
    correct: Bool[np.ndarray, " n"]


@lru_cache(maxsize=64)
def mapped_sampler(config: SamplerConfig, parallel: Parallel) -> Callable[..., Rollout]:
    """`run((denoise, policy), keys, canvases)`: `sample`, compiled once for these settings."""

    def run(shared: tuple, keys: jax.Array, canvases: jax.Array) -> Rollout:
        return sample(keys, canvases, denoise=shared[0], policy=shared[1], config=config)

    match parallel:
        case "device_map":
            return device_map(run, make_mesh())
        case "pmap":
            return pmap_map(run)
        case "vmap":
            return vmap_map(run)
    raise ValueError(f"unknown --parallel {parallel!r}; choose vmap, device_map or pmap")


def generate(
    key: RowKey,
    canvases: Int[np.ndarray, "n length"],
    denoise: Denoise,
    policy: Policy,
    config: SamplerConfig,
    *,
    batch_size: int = 256,
    parallel: Parallel = "vmap",
    indices: Int[np.ndarray, " todo"] | None = None,
) -> Iterator[Generated]:
    """Complete canvases batch by batch; canvas i always uses fold_in(key, i).

    Args:
      key: of the whole evaluation.
      canvases: prompts.
      indices: which of them; None: all.

    Yields:
      One `Generated` per batch. The last batch is filled up with copies, which are dropped.

    Raises:
      ValueError: the batch does not fit the devices, or the canvases the response or its blocks.
    """
    check_request(canvases, config, batch_size, parallel)
    indices = np.arange(len(canvases)) if indices is None else np.asarray(indices)
    run = mapped_sampler(config, parallel)
    shared, spread = (denoise, policy), (lambda tree: tree)
    if parallel == "device_map":
        mesh = make_mesh()
        shared = place(shared, replicated(mesh))
        spread = lambda tree: place(tree, by_row(mesh))  # noqa: E731
    for chosen, filled in padded_batches(indices, batch_size):
        inputs = spread((row_keys(key, jnp.asarray(filled)), jnp.asarray(canvases[filled])))
        began = time.perf_counter()
        rollout = fetch(run(shared, *inputs))
        seconds = time.perf_counter() - began
        passes = int(rollout.nfe.max())
        yield Generated(chosen, _cut(rollout, slice(len(chosen))), passes, seconds)


def generate_sweep(
    key: RowKey,
    canvases: Int[np.ndarray, "n length"],
    denoise: Denoise,
    policies: list[Policy],
    config: SamplerConfig,
    *,
    batch_size: int = 256,
    indices: Int[np.ndarray, " todo"] | None = None,
) -> Iterator[list[Generated]]:
    """`generate` under several settings of one policy at once, as one compiled call per batch.

    Yields:
      One `Generated` per policy for each batch. They share their time and their passes.
    """
    indices = np.arange(len(canvases)) if indices is None else indices
    stacked = stack(policies)
    for chosen, filled in padded_batches(indices, batch_size):
        keys = row_keys(key, jnp.asarray(filled))
        began = time.perf_counter()
        found = sweep(
            keys, jnp.asarray(canvases[filled]), denoise=denoise, policies=stacked, config=config
        )
        found, seconds = jax.device_get(found), time.perf_counter() - began
        passes = int(found.nfe.max())
        yield [
            Generated(chosen, _cut(found, (k, slice(len(chosen)))), passes, seconds)
            for k in range(len(policies))
        ]


def _cut(rollout: Rollout, index: Any) -> Rollout:
    return jax.tree.map(lambda x: x[index], rollout)


def padded_batches(
    indices: Int[np.ndarray, " todo"], size: int
) -> Iterator[tuple[Int[np.ndarray, " some"], Int[np.ndarray, " size"]]]:
    """Slices of `indices`, and each filled up to `size` with copies."""
    for start in range(0, len(indices), size):
        chosen = indices[start : start + size]
        yield chosen, np.resize(chosen, size)


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
      store: where generations are kept; with several processes, the first one writes.
      on_batch: told the number of rows after each batch.

    Raises:
      ValueError: no examples, or the batch does not fit the devices.
    """
    check_examples(examples)
    label = label_of(policy, config)
    todo = np.setdiff1d(np.arange(len(examples.canvases)), list(store.done(label)))
    on_batch(len(examples.canvases) - len(todo))
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
        store.append(to_samples(label, task, batch, timed=number > 0))
        on_batch(len(batch.indices))
    return score(task, examples, policy, config, store.read(label))


def to_samples(label: str, task: Task, batch: Generated, timed: bool) -> list[Sample]:
    """A batch as records of the store; the first one's time includes compilation and is left out."""
    rollout = batch.rollout
    seconds = batch.seconds / len(rollout.nfe) if timed else None
    columns = zip(batch.indices, rollout.canvas, rollout.nfe, rollout.revealed_at, strict=True)
    return [
        Sample(
            setting=label,
            index=index,
            tokens=tokens,
            text=task.decode(tokens),
            nfe=nfe,
            passes=batch.passes,
            seconds=seconds,
            revealed_at=steps,
        )
        for index, tokens, nfe, steps in columns
    ]


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
        sequences_per_second=float(1 / np.mean(timed)) if len(timed) else float("nan"),
    )
    return Outcome(row, correct)


def plain(policy: Policy) -> Policy:
    """The policy that acts, where it is one of a `Choice`."""
    return policy.chosen if isinstance(policy, Choice) else policy


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
    knobs = {f.name: getattr(policy, f.name) for f in fields(policy)}
    shown = {k: v if isinstance(v, int | float | str) else str(v) for k, v in knobs.items()}
    sampler = {"temperature": config.temperature, "budget": config.budget}
    if config.block_length is not None:
        sampler["block_length"] = config.block_length
    if config.top_p != 1:
        sampler["top_p"] = config.top_p
    if config.eos_id is not None:
        sampler["cut_eos"] = True
    if not config.commit:
        sampler["commit"] = False
    return shown | sampler


def sampler_config(task: Task, **settings: Any) -> SamplerConfig:
    """The sampler settings of a task: its ids, its response, and a budget that is always enough."""
    vocabulary = task.vocabulary
    defaults = {
        "mask_id": vocabulary.mask_id,
        "pad_id": vocabulary.pad_id,
        "eos_id": vocabulary.eos_id,
        "gen_length": task.gen_length,
        "budget": task.gen_length or task.length,
    }
    return SamplerConfig(**{**defaults, **settings})


def check_request(
    canvases: Int[np.ndarray, "n length"],
    config: SamplerConfig,
    batch_size: int,
    parallel: Parallel = "vmap",
) -> None:
    """Raise ValueError for what generation would refuse, before anything is written or compiled."""
    check_batch(batch_size, 1 if parallel == "vmap" else jax.device_count())
    check_window(config, canvases.shape[1])


def check_examples(examples: Examples) -> None:
    """Raise ValueError unless there is something to generate."""
    if len(examples.canvases) == 0:
        raise ValueError("the split has no examples; choose another split or count")
