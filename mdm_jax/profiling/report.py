"""How fast stored generations were made: tokens, calls, and share of the device's measured peak."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mdm_jax.denoisers.base import Bound
from mdm_jax.evals.evaluator import Evaluator
from mdm_jax.evals.store import Generations
from mdm_jax.profiling.flops import program_flops
from mdm_jax.profiling.throughput import Throughput, throughput
from mdm_jax.profiling.timing import peak_matmul_flops
from mdm_jax.tasks.base import Task

REPEATS = 3


class Speed(NamedTuple):
    """Throughput, and the share of the measured matrix-multiply peak; None where not known."""

    throughput: Throughput
    share_of_peak: float | None

    def summary(self) -> str:
        """Tokens per denoiser call and per second, a sentence per line."""
        found = self.throughput
        lines = [
            f"{found.useful_tokens:.1f} tokens before EOS per sequence; per denoiser call "
            f"{found.useful_tokens_per_call:.2f} of them, {found.canvas_tokens_per_call:.2f} positions"
        ]
        if found.passes_per_second is None:
            lines.append(
                "no rates: only the batch that compiled was generated, now or in earlier runs"
            )
            return "\n".join(lines)
        lines.append(
            f"{found.useful_tokens_per_second:,.1f} tokens before EOS and "
            f"{found.canvas_tokens_per_second:,.1f} positions per second"
        )
        if self.share_of_peak is not None:
            share = f"{100 * self.share_of_peak:.1f} %"
            lines.append(f"{share} of the measured peak of matrix products on this machine")
        return "\n".join(lines)


def measure_speed(evaluator: Evaluator, found: Generations, devices: int) -> Speed:
    """The speed of stored generations.

    The share is the FLOP/s of full denoiser calls relative to those of a large matrix product of the
    same type, measured now on this machine; None with a cache, whose calls are not full.

    Args:
      evaluator: whose denoiser is a published checkpoint.
      found: what it has generated.
      devices: that worked on it.
    """
    config, denoise = evaluator.config, evaluator.denoise
    speed = throughput(found, evaluator.examples.canvases, evaluator.task.vocabulary)
    if speed.passes_per_second is None or config.cache is not None:
        return Speed(speed, None)
    flops = flops_of_call(denoise, evaluator.task) * speed.passes_per_second
    peak = devices * peak_matmul_flops(denoise.module.config.dtype, REPEATS)
    return Speed(speed, flops / peak)


def flops_of_call(denoise: Bound, task: Task) -> float:
    """Floating-point operations of one call for one canvas, unembedding the response alone."""
    canvas = jax.ShapeDtypeStruct((task.length,), jnp.int32)
    valid = jax.ShapeDtypeStruct((task.length,), bool)
    positions = jax.ShapeDtypeStruct((task.gen_length or task.length,), jnp.int32)
    return program_flops(Bound.__call__, denoise, canvas, valid, positions)
