"""How fast a published checkpoint generated: tokens and calls per second, percent of measured peak."""

import jax
import jax.numpy as jnp

from experiments._cli.console import print_once
from mdm_jax.denoisers.base import Bound
from mdm_jax.evals.store import Generations
from mdm_jax.profiling.flops import program_flops
from mdm_jax.profiling.throughput import throughput
from mdm_jax.profiling.timing import peak_matmul_flops
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Examples, Task

REPEATS = 3


def report_speed(
    found: Generations,
    examples: Examples,
    denoise: Bound,
    task: Task,
    config: SamplerConfig,
    devices: int,
) -> dict[str, float | None]:
    """Print the speed of stored generations, and give it by name.

    `share_of_peak` is the FLOP/s of full denoiser calls relative to those of a large matrix product of
    the same type, measured now on this machine; None with a cache, whose calls are not full.
    """
    speed = throughput(found, examples.canvases, task.vocabulary)
    print_once(
        f"{speed.useful_tokens:.1f} tokens before EOS per sequence; per denoiser call "
        f"{speed.useful_tokens_per_call:.2f} of them, {speed.canvas_tokens_per_call:.2f} positions"
    )
    if speed.passes_per_second is None:
        print_once(
            "no rates: only the batch that compiled was generated in this or an earlier start"
        )
        return speed._asdict() | {"share_of_peak": None}
    print_once(
        f"{speed.useful_tokens_per_second:,.1f} tokens before EOS and "
        f"{speed.canvas_tokens_per_second:,.1f} positions per second"
    )
    if config.cache is not None:
        return speed._asdict() | {"share_of_peak": None}
    passes = speed.passes_per_second * (2 if config.guidance else 1)
    peak = devices * peak_matmul_flops(denoise.module.config.dtype, REPEATS)
    share = flops_of_call(denoise, task) * passes / peak
    print_once(f"{100 * share:.1f} % of the measured peak of matrix products on this machine")
    return speed._asdict() | {"share_of_peak": share}


def flops_of_call(denoise: Bound, task: Task) -> float:
    """Floating-point operations of one call for one canvas, unembedding the response alone."""
    canvas = jax.ShapeDtypeStruct((task.length,), jnp.int32)
    valid = jax.ShapeDtypeStruct((task.length,), bool)
    positions = jax.ShapeDtypeStruct((task.gen_length or task.length,), jnp.int32)
    return program_flops(Bound.__call__, denoise, canvas, valid, positions)
