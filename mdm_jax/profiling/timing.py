"""What a job takes to compile and to run, and what this machine could do at best."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import jax
import jax.numpy as jnp

Job = Callable[[], jax.Array]
COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"


@contextmanager
def _counted() -> Iterator[list[float]]:
    """The seconds of each compilation that happens inside."""
    seen: list[float] = []

    def listen(event: str, seconds: float, **_: object) -> None:
        if event == COMPILE_EVENT:
            seen.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


class Compiled(NamedTuple):
    """What it took to compile a job, and what the job gives."""

    seconds: float
    number: int
    result: jax.Array


def compile_job(job: Job) -> Compiled:
    """Seconds and number of compilations of the first run; the second must need none."""
    with _counted() as first:
        jax.block_until_ready(job())
    with _counted() as again:
        result = jax.block_until_ready(job())
    return Compiled(sum(first), len(first) + len(again), result)


def seconds_of(job: Job) -> float:
    """Wall-clock seconds of one run."""
    began = time.perf_counter()
    jax.block_until_ready(job())
    return time.perf_counter() - began


def interleaved(jobs: dict[str, Job], repeats: int) -> dict[str, float]:
    """Median seconds of each job, the jobs taking turns."""
    seen: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            seen[name].append(seconds_of(job))
    return {name: statistics.median(times) for name, times in seen.items()}


def matmul_ceiling(dtype: str, repeats: int) -> float:
    """FLOP/s of a large square matrix product of this type, the best of the repetitions."""
    size = 8192 if jax.default_backend() != "cpu" else 2048
    a = jnp.ones((size, size), dtype)
    product = jax.jit(lambda a: a @ a)
    jax.block_until_ready(product(a))
    return 2.0 * size**3 / min(seconds_of(lambda: product(a)) for _ in range(repeats))


def reading_ceiling(dtype: str, repeats: int) -> float:
    """Bytes/s of reading a large array once, as a product with a vector, the best of the repetitions."""
    size = 32768 if jax.default_backend() != "cpu" else 8192
    a, x = jnp.ones((size, size), dtype), jnp.ones((size,), dtype)
    product = jax.jit(lambda a, x: a @ x)
    jax.block_until_ready(product(a, x))
    return a.nbytes / min(seconds_of(lambda: product(a, x)) for _ in range(repeats))
