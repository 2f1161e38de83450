"""How fast a published checkpoint generated: tokens, calls, and share of what the device can multiply."""

import jax
import jax.numpy as jnp

from experiments._cli.console import print_once
from mdm_jax.denoisers.base import Bound
from mdm_jax.evals.store import Generations
from mdm_jax.profiling.throughput import matmul_flops, throughput
from mdm_jax.profiling.timing import matmul_ceiling
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

    The share is that of the matrix products of full denoiser calls in a large product of the same
    type, measured now, on this machine. With a cache calls are not full, and none is given.
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
        return speed._asdict() | {"share_of_ceiling": None}
    print_once(
        f"{speed.useful_tokens_per_second:,.1f} tokens before EOS and "
        f"{speed.canvas_tokens_per_second:,.1f} positions per second"
    )
    if config.cache is not None:
        return speed._asdict() | {"share_of_ceiling": None}
    passes = speed.passes_per_second * (2 if config.guidance else 1)
    ceiling = devices * matmul_ceiling(denoise.module.config.dtype, REPEATS)
    share = flops_of_call(denoise, task) * passes / ceiling
    print_once(f"{100 * share:.1f} % of the matrix-multiply ceiling of this machine")
    return speed._asdict() | {"share_of_ceiling": share}


def flops_of_call(denoise: Bound, task: Task) -> float:
    """Floating-point operations of one call for one canvas, unembedding the response alone."""
    canvas = jax.ShapeDtypeStruct((task.length,), jnp.int32)
    valid = jax.ShapeDtypeStruct((task.length,), bool)
    positions = jax.ShapeDtypeStruct((task.gen_length or task.length,), jnp.int32)
    return matmul_flops(denoise, canvas, valid, positions)
