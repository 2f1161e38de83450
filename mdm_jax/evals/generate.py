"""Completing many canvases: batches, devices, sweeps, and what they cost."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Int

from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.errors import MdmError, check_rows
from mdm_jax.evals.refilled import refilled
from mdm_jax.policies.base import Policy, stack
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample, sweep
from mdm_jax.sampling.refill import Running, advance, begin
from mdm_jax.sampling.rows import Sampler
from mdm_jax.sharding import (
    by_row,
    check_batch,
    device_map,
    make_mesh,
    pmap_map,
    replicated,
    shard,
    to_host,
    vmap_map,
)
from mdm_jax.types import Rollout, RowKey

LOGITS = "the denoiser's logits for prompt"
Parallel = Literal["vmap", "device_map", "pmap"]


class Batching(NamedTuple):
    """How many canvases are completed at once, and how they are spread over devices."""

    size: int = 256
    parallel: Parallel = "vmap"


class Generated(NamedTuple):
    """Finished canvases."""

    indices: Int[np.ndarray, " batch"]
    rollout: Rollout  # host arrays
    seconds: float | None  # None where compilation is part of it


@lru_cache(maxsize=64)
def mapped_sampler(config: SamplerConfig, parallel: Parallel) -> Callable[..., Rollout]:
    """`run((denoise, policy), keys, canvases)`: `sample`, compiled once for these settings."""

    def run(shared: tuple, keys: jax.Array, canvases: jax.Array) -> Rollout:
        return sample(keys, canvases, denoise=shared[0], policy=shared[1], config=config)

    return _map(run, parallel)


@lru_cache(maxsize=64)
def mapped_refill(config: SamplerConfig, parallel: Parallel) -> tuple[Callable, Callable]:
    """`begin` and `advance` of `sampling.refill`, each compiled once for these settings.

    The first takes ((denoise, policy), keys, canvases), the second ((denoise, policy, free), keys,
    canvases, running, is_new).
    """

    def first(shared: tuple, keys: jax.Array, canvases: jax.Array) -> Running:
        return begin(Sampler(*shared, config), keys, canvases)

    def on(shared: tuple, *rows: Any) -> tuple:
        denoise, policy, free = shared
        return advance(Sampler(denoise, policy, config), *rows, free)

    return _map(first, parallel), _map(on, parallel)


def _map(run: Callable, parallel: Parallel) -> Callable:
    match parallel:
        case "device_map":
            return device_map(run, make_mesh())
        case "pmap":
            return pmap_map(run)
        case "vmap":
            return vmap_map(run)
    raise MdmError(f"unknown --parallel {parallel!r}; choose vmap, device_map or pmap")


def generate(
    key: RowKey,
    canvases: Int[np.ndarray, "n length"],
    *,
    denoise: Denoise,
    policy: Policy,
    config: SamplerConfig,
    batching: Batching,
    indices: Int[np.ndarray, " todo"] | None = None,
) -> Iterator[Generated]:
    """Complete canvases; canvas i always uses fold_in(key, i).

    Where there are more canvases than a batch holds, waiting ones take the place of finished rows.
    Not with a cache, under which the rows of a batch go through their blocks together, and not where
    every step is recorded: then batch by batch.

    Args:
      key: of the whole evaluation.
      canvases: prompts.
      indices: which of them; None: all.

    Yields:
      One `Generated` for every batch, or for rows that have finished. A batch that is not full is
      filled up with copies, which are dropped.

    Raises:
      MdmError: logits that are NaN or infinite.
      MdmError: the batch does not fit the devices, or the canvases the response or its blocks.
    """
    check_request(canvases, config, batching)
    mesh = make_mesh() if batching.parallel == "device_map" else None
    shared = _on_devices((denoise, policy), mesh, replicated)
    indices = np.arange(len(canvases)) if indices is None else np.asarray(indices)

    def rows_of(chosen: Int[np.ndarray, " batch"]) -> tuple[jax.Array, jax.Array]:
        inputs = row_keys(key, jnp.asarray(chosen)), jnp.asarray(canvases[chosen])
        return _on_devices(inputs, mesh, by_row)

    waits = len(indices) > batching.size and config.cache is None and not config.record
    complete = _with_refill if waits else _in_batches
    for one in complete(indices, shared, rows_of, config, batching):
        check_rows(LOGITS, one.rollout.finite, one.indices)
        yield one


def _in_batches(
    indices: Int[np.ndarray, " todo"],
    shared: tuple[Denoise, Policy],
    rows_of: Callable,
    config: SamplerConfig,
    batching: Batching,
) -> Iterator[Generated]:
    """Every batch completed before the next."""
    run = mapped_sampler(config, batching.parallel)
    for number, (chosen, filled) in enumerate(padded_batches(indices, batching.size)):
        inputs = rows_of(filled)
        began = time.perf_counter()
        rollout = _cut(to_host(run(shared, *inputs)), slice(len(chosen)))
        seconds = time.perf_counter() - began if number else None
        most = np.full_like(rollout.passes, rollout.passes.max())  # of all devices
        yield Generated(chosen, rollout._replace(passes=most), seconds)


def _with_refill(
    indices: Int[np.ndarray, " todo"],
    shared: tuple[Denoise, Policy],
    rows_of: Callable,
    config: SamplerConfig,
    batching: Batching,
) -> Iterator[Generated]:
    """Finished rows replaced by waiting ones."""
    first, on = mapped_refill(config, batching.parallel)
    mesh = make_mesh() if batching.parallel == "device_map" else None
    devices = 1 if batching.parallel == "vmap" else jax.device_count()

    def go_on(prompts: np.ndarray, running: Running, is_new: np.ndarray, free: int) -> tuple:
        is_new = _on_devices(jnp.asarray(is_new), mesh, by_row)
        running, *found = on((*shared, np.int32(free)), *rows_of(prompts), running, is_new)
        return running, *to_host(tuple(found))

    def start(prompts: np.ndarray) -> Running:
        rows = first(shared, *rows_of(prompts))
        return go_on(prompts, rows, np.zeros(len(prompts), bool), 0)[
            0
        ]  # makes no call, and compiles

    local = batching.size // devices
    for one in refilled(indices, batching.size, local, start, go_on):
        yield Generated(*one)


def generate_sweep(
    key: RowKey,
    canvases: Int[np.ndarray, "n length"],
    *,
    denoise: Denoise,
    policies: Sequence[Policy],
    config: SamplerConfig,
    batch_size: int = 256,
    indices: Int[np.ndarray, " todo"] | None = None,
) -> Iterator[list[Generated]]:
    """`generate` under several settings of one policy at once, as one compiled call per batch.

    Yields:
      One `Generated` per policy for each batch. Passes are those that its setting takes alone, and it
      has no time of its own.

    Raises:
      MdmError: logits that are NaN or infinite.
      MdmError: the canvases do not fit the response or its blocks.
    """
    check_request(canvases, config, Batching(batch_size))
    indices = np.arange(len(canvases)) if indices is None else np.asarray(indices)
    stacked = stack(list(policies))
    for chosen, filled in padded_batches(indices, batch_size):
        inputs = row_keys(key, jnp.asarray(filled)), jnp.asarray(canvases[filled])
        found = jax.device_get(sweep(*inputs, denoise=denoise, policies=stacked, config=config))
        check_rows(LOGITS, found.finite.all(axis=0)[: len(chosen)], chosen)
        yield [
            Generated(chosen, _cut(found, (k, slice(len(chosen)))), None)
            for k in range(len(policies))
        ]


def _on_devices(tree: Any, mesh: Mesh | None, spec: Callable[[Mesh], NamedSharding]) -> Any:
    """A pytree laid out over a mesh; without one, as it is."""
    return tree if mesh is None else shard(tree, spec(mesh))


def _cut(rollout: Rollout, index: Any) -> Rollout:
    return jax.tree.map(lambda x: x[index], rollout)


def check_request(
    canvases: Int[np.ndarray, "n length"],
    config: SamplerConfig,
    batching: Batching,
) -> None:
    """Raise ValueError for what generation would refuse, before anything is written or compiled."""
    if len(canvases) == 0:
        raise MdmError("there are no examples to complete; choose another split or count")
    check_batch(batching.size, 1 if batching.parallel == "vmap" else jax.device_count())
    config.check(canvases.shape[1])
    is_masked = canvases == config.mask_id
    spread = is_masked.shape[1] - is_masked[:, ::-1].argmax(1) - is_masked.argmax(1)
    if config.gen_length and (is_masked.any(1) & (spread > config.gen_length)).any():
        raise MdmError(
            f"masks spread over {spread.max()} positions do not fit gen_length {config.gen_length}; "
            "infilling at arbitrary positions takes gen_length None"
        )


def padded_batches(
    indices: Int[np.ndarray, " todo"], size: int
) -> Iterator[tuple[Int[np.ndarray, " some"], Int[np.ndarray, " size"]]]:
    """Slices of `indices`, and each filled up to `size` with copies."""
    for start in range(0, len(indices), size):
        chosen = indices[start : start + size]
        yield chosen, np.resize(chosen, size)
