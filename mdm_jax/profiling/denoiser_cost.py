"""Time of one denoiser call, full or cached, as shares of the machine's measured peak rates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mdm_jax.denoisers.base import Bound, KVCache
from mdm_jax.profiling.timing import Job, Peaks, interleaved
from mdm_jax.types import Count

CALLS = 8  # denoiser calls in one timed run
Canvases = Int[Array, "batch length"]


class CallCost(NamedTuple):
    """Time of one denoiser call, and its shares of the machine's peak rates."""

    kind: str
    batch: int
    milliseconds: float
    share_of_peak_flops: float
    share_of_peak_bytes: float

    def cells(self) -> dict[str, str]:
        """A line of a table, by column."""
        return {
            "denoiser call": self.kind,
            "batch": str(self.batch),
            "ms": f"{self.milliseconds:.2f}",
            "% of peak FLOP/s": f"{100 * self.share_of_peak_flops:.1f}",
            "% of peak bytes/s": f"{100 * self.share_of_peak_bytes:.1f}",
        }


def measure_calls(
    denoise: Bound, canvases: Canvases, block_length: int, peaks: Peaks, repeats: int
) -> list[CallCost]:
    """A full call and a cached one of the last block; both unembed that block alone."""
    batch, length = canvases.shape
    block = length - block_length + jnp.arange(block_length)
    jobs = {
        "full canvas": _full_calls(denoise, canvases, block),
        "cached block": _cached_calls(denoise, canvases, block),
    }
    for job in jobs.values():
        jax.block_until_ready(job())
    times = interleaved(jobs, repeats)
    lines = []
    for kind, fed in (("full canvas", length), ("cached block", block_length)):
        seconds = times[kind] / CALLS
        flops = call_flops(denoise, batch, length, fed, block_length)
        share_of_flops = flops / seconds / peaks.flops
        share_of_bytes = call_bytes(denoise, batch, length, fed) / seconds / peaks.bytes
        lines.append(CallCost(kind, batch, 1e3 * seconds, share_of_flops, share_of_bytes))
    return lines


def call_flops(denoise: Bound, batch: int, length: int, fed: int, unembedded: int) -> float:
    """FLOPs of the matrix products in a call that recomputes `fed` positions of each canvas."""
    model = denoise.module.config
    projections = 2 * model.width**2 + 2 * model.width * model.kv_heads * model.dim
    layer = projections + 3 * model.width * model.mlp + 2 * length * model.width
    return 2.0 * batch * (fed * model.depth * layer + unembedded * model.width * model.vocab)


def call_bytes(denoise: Bound, batch: int, length: int, fed: int) -> int:
    """Bytes that such a call has to read: every weight but the embedding once, and the cache."""
    model, params = denoise.module.config, denoise.params
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(params)) - params["embed"].nbytes
    cached = (length - fed) * model.depth * 2 * model.kv_heads * model.dim
    return weights + batch * cached * jnp.dtype(model.dtype).itemsize


def _full_calls(denoise: Bound, canvases: Canvases, block: Int[Array, " block"]) -> Job:
    """`CALLS` sequential calls of the denoiser."""

    @jax.jit
    def calls(denoise: Bound, canvases: Canvases) -> Canvases:
        valid = jnp.ones(canvases.shape, bool)

        def call(_: Count, canvases: Canvases) -> Canvases:
            return _after(jax.vmap(denoise, (0, 0, None))(canvases, valid, block), canvases)

        return jax.lax.fori_loop(0, CALLS, call, canvases)

    return lambda: calls(denoise, canvases)


def _cached_calls(denoise: Bound, canvases: Canvases, block: Int[Array, " block"]) -> Job:
    """The same for the block, with a cache that is prefilled before and not timed."""
    valid, length = jnp.ones(canvases.shape, bool), len(block)
    kv_cache = jax.jit(lambda denoise: jax.vmap(denoise.prefill)(canvases, valid))(denoise)

    @jax.jit
    def calls(denoise: Bound, canvases: Canvases, kv_cache: KVCache) -> Canvases:
        extend = jax.vmap(denoise.extend, (0, None, 0, 0))
        read = jax.vmap(denoise.read, (0, None))

        def call(_: Count, carry: tuple[Canvases, KVCache]) -> tuple[Canvases, KVCache]:
            canvases, kv_cache = carry
            kv_cache = extend(canvases[:, -length:], block[0], valid, kv_cache)
            return _after(read(kv_cache, block)[0], canvases), kv_cache

        return jax.lax.fori_loop(0, CALLS, call, (canvases, kv_cache))[0]

    return lambda: calls(denoise, canvases, kv_cache)


def _after(logits: Array, canvases: Canvases) -> Canvases:
    """The canvases unchanged, but only once all logits are computed: keeps the calls sequential."""
    return canvases + (jnp.max(logits) > 1e30).astype(canvases.dtype)
