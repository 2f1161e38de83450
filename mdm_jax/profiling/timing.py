"""Seconds that a job takes to compile and to run, and the peak rates that this machine reaches."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mdm_jax.keys import root_key

Job = Callable[[], jax.Array]
COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"


class Peaks(NamedTuple):
    """What this machine reached in a large matrix product, FLOP/s, and in reading, bytes/s."""

    flops: float
    bytes: float

    def summary(self) -> str:
        """Both rates in a sentence."""
        return (
            f"measured peaks: {self.flops / 1e9:,.0f} GFLOP/s in a matrix product, "
            f"{self.bytes / 1e9:,.1f} GB/s read"
        )


class Compiled(NamedTuple):
    """What it took to compile a job, and what the job returns."""

    seconds: float
    compilations: int
    result: jax.Array


def compile_job(job: Job) -> Compiled:
    """Seconds and number of compilations of the first run; the second must need none."""
    with _compile_seconds() as first:
        jax.block_until_ready(job())
    with _compile_seconds() as again:
        result = jax.block_until_ready(job())
    return Compiled(sum(first), len(first) + len(again), result)


@contextmanager
def _compile_seconds() -> Iterator[list[float]]:
    """The seconds of each compilation inside the context."""
    seconds: list[float] = []

    def listen(event: str, duration: float, **_: object) -> None:
        if event == COMPILE_EVENT:
            seconds.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seconds
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def seconds_of(job: Job) -> float:
    """Wall-clock seconds of one run."""
    began = time.perf_counter()
    jax.block_until_ready(job())
    return time.perf_counter() - began


def interleaved(jobs: dict[Any, Job], repeats: int) -> dict[Any, float]:
    """Median seconds of each job over `repeats` rounds in which every job runs once."""
    seen: dict[Any, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            seen[name].append(seconds_of(job))
    return {name: statistics.median(times) for name, times in seen.items()}


def peak_matmul_flops(dtype: str, repeats: int) -> float:
    """FLOP/s of a large square matrix product of this type, the best of the repetitions.

    The factors are random: a GPU draws less power, and clocks higher, on constant ones.
    """
    size = 8192 if jax.default_backend() != "cpu" else 2048
    a, b = (_random((size, size), dtype, seed) for seed in (0, 1))
    product = jax.jit(jnp.matmul)
    return 2.0 * size**3 / _best_seconds(lambda: product(a, b), repeats)


def peak_read_bytes(dtype: str, repeats: int) -> float:
    """Bytes/s of reading a large array once, as a product with a vector, the best of the repetitions."""
    size = 32768 if jax.default_backend() != "cpu" else 8192
    a, x = _random((size, size), dtype, 0), _random((size,), dtype, 1)
    product = jax.jit(jnp.matmul)
    return a.nbytes / _best_seconds(lambda: product(a, x), repeats)


def measure_peaks(dtype: str, repeats: int) -> Peaks:
    """Both peak rates of this machine."""
    return Peaks(peak_matmul_flops(dtype, repeats), peak_read_bytes(dtype, repeats))


def _random(shape: tuple[int, ...], dtype: str, seed: int) -> jax.Array:
    return jax.jit(lambda key: jax.random.normal(key, shape, dtype))(root_key(seed))


def _best_seconds(job: Job, repeats: int) -> float:
    """Seconds of the fastest run after a first one that compiles."""
    jax.block_until_ready(job())
    return min(seconds_of(job) for _ in range(repeats))
