"""What generating with a published denoiser's shape costs on this machine, with and without a cache.

Weights are random, so it is the time that counts, not the text. Everything starts from the same
prompts; fixed steps make the same number of denoiser calls whatever the weights. The first table is of
whole generations, compilation apart; the second is of single denoiser calls, against two limits
measured in the same run: a large matrix product, and reading a large array once.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int
from rich.table import Table

from experiments import _cli as cli
from experiments._cli.console import console
from mdm_jax.denoisers.attention import choose
from mdm_jax.denoisers.base import Bound, bind
from mdm_jax.denoisers.pretrained.config import PretrainedConfig
from mdm_jax.denoisers.pretrained.llada import LLADA_8B
from mdm_jax.denoisers.pretrained.network import PretrainedTransformer
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.policies.base import Policy
from mdm_jax.policies.heuristics import ConfidenceThreshold, TopConfidence
from mdm_jax.profiling.denoiser_cost import Call, Limits, measure_calls
from mdm_jax.profiling.timing import (
    Job,
    compile_job,
    interleaved,
    matmul_ceiling,
    reading_ceiling,
)
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample

Cache = Literal["none", "prefix", "dual"]
# the configuration that others were timed with
MEDIUM = PretrainedConfig(
    vocab=8192,
    embeddings=8192,
    width=512,
    depth=8,
    heads=8,
    kv_heads=8,
    mlp=1536,
    max_length=1024,
    norm_eps=1e-5,
    rope_base=5e5,
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the benchmark.

    Attributes:
      model: shape and type of the denoiser; the last id of its vocabulary is MASK.
      prompt: positions that are given.
      gen_length: positions that are generated.
      block_length: of a block.
      steps: denoiser calls of a generation with fixed counts, and the most of one with a threshold.
      threshold: of `ConfidenceThreshold`. Random weights are never sure, so expect `steps` calls.
      caches: what is kept between calls.
      batch_sizes: sequences generated together.
      repeats: of every measurement.
    """

    model: PretrainedConfig = field(default_factory=lambda: MEDIUM)
    prompt: int = 32
    gen_length: int = 128
    block_length: int = 32
    steps: int = 64
    threshold: float = 0.9
    caches: tuple[Cache, ...] = ("none", "prefix", "dual")
    batch_sizes: tuple[int, ...] = (1, 8)
    repeats: int = 3

    def __post_init__(self) -> None:
        if min(self.prompt, self.repeats, *self.batch_sizes) < 1:
            raise ValueError("prompt, repeats and batch_sizes must be at least 1")
        if self.gen_length % self.block_length:
            raise ValueError(
                f"block_length {self.block_length} does not divide gen_length {self.gen_length}"
            )
        if self.steps < self.gen_length // self.block_length:
            raise ValueError(f"steps {self.steps} are less than one call for each block")

    @property
    def length(self) -> int:
        """Positions of a canvas."""
        return self.prompt + self.gen_length


@dataclass(frozen=True)
class Generation:
    """One line of the first table."""

    policy: str
    cache: str
    batch: int
    calls: int
    seconds: float
    compile_seconds: float
    compilations: int


def run(config: Config) -> tuple[list[Generation], list[Call]]:
    """Measure, print, return the lines of both tables."""
    module = PretrainedTransformer(config.model)
    denoise = bind(module, random_params(module, jax.random.key(0)))
    generations = [
        line for batch in config.batch_sizes for line in _generate(config, denoise, batch)
    ]
    _print_generations(config, generations)
    dtype, repeats = config.model.dtype, config.repeats
    limits = Limits(matmul_ceiling(dtype, repeats), reading_ceiling(dtype, repeats))
    calls = []
    for batch in config.batch_sizes:
        canvases = _canvases(config, batch)
        calls += measure_calls(denoise, canvases, config.block_length, limits, repeats)
    _print_calls(calls, limits)
    return generations, calls


def random_params(module: PretrainedTransformer, key: jax.Array) -> dict:
    """Matrices drawn with deviation 0.02, everything else 1; made one by one."""
    canvas = jnp.zeros(1, int), jnp.ones(1, bool)
    shapes = jax.eval_shape(module.init, key, *canvas)["params"]
    leaves, structure = jax.tree.flatten(shapes)
    draw = jax.jit(
        lambda key, like: (0.02 * jax.random.normal(key, like.shape)).astype(like.dtype),
        static_argnums=1,
    )
    made = [
        draw(jax.random.fold_in(key, i), leaf)
        if leaf.ndim > 1
        else jnp.ones(leaf.shape, leaf.dtype)
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, made)


def _canvases(config: Config, batch: int) -> Int[Array, "batch length"]:
    mask_id = config.model.vocab - 1
    prompts = jax.random.randint(jax.random.key(1), (batch, config.prompt), 0, mask_id)
    return jnp.concatenate([prompts, jnp.full((batch, config.gen_length), mask_id)], axis=1)


def _generate(config: Config, denoise: Bound, batch: int) -> list[Generation]:
    """Every policy under every cache, taking turns."""
    policies = {
        "fixed steps": TopConfidence(config.steps),
        "threshold": ConfidenceThreshold(config.threshold),
    }
    names = [(policy, cache) for policy in policies for cache in config.caches]
    jobs = {
        f"{policy}, {cache}": _sampler(config, denoise, policies[policy], cache, batch)
        for policy, cache in names
    }
    compiled = {name: compile_job(job) for name, job in jobs.items()}
    times = interleaved(jobs, config.repeats)
    return [
        Generation(
            policy,
            cache,
            batch,
            int(compiled[name].result.max()),
            times[name],
            compiled[name].seconds,
            compiled[name].number,
        )
        for (policy, cache), name in zip(names, jobs, strict=True)
    ]


def _sampler(config: Config, denoise: Bound, policy: Policy, cache: Cache, batch: int) -> Job:
    """Generates the batch, and gives the denoiser calls of each sequence."""
    vocab, keys = config.model.vocab, row_keys(jax.random.key(2), jnp.arange(batch))
    settings = SamplerConfig(
        mask_id=vocab - 1,
        pad_id=vocab,
        budget=config.steps,
        block_length=config.block_length,
        gen_length=config.gen_length,
        cache=None if cache == "none" else cache,
    )
    canvases = _canvases(config, batch)
    return lambda: sample(keys, canvases, denoise=denoise, policy=policy, config=settings).nfe


def _print_generations(config: Config, lines: list[Generation]) -> None:
    model, device = config.model, jax.devices()[0]
    chosen = choose(model.attention, jax.default_backend(), jnp.dtype(model.dtype), model.dim)
    console.print(
        f"{device.device_kind}: width {model.width}, depth {model.depth}, vocab {model.vocab}, "
        f"{model.dtype}; {config.prompt} + {config.gen_length} positions in blocks of "
        f"{config.block_length}; attention: {chosen.implementation} ({chosen.why})"
    )
    names = ("policy", "cache", "batch", "calls", "s per sequence", "sequences/s", "tokens/s")
    table = _table(*names, "ms per call", "compile s", "compilations")
    for line in lines:
        rate = line.batch / line.seconds
        table.add_row(
            line.policy,
            line.cache,
            str(line.batch),
            str(line.calls),
            f"{1 / rate:.3g}",
            f"{rate:.3g}",
            f"{rate * config.gen_length:,.0f}",
            f"{1e3 * line.seconds / line.calls:.1f}",
            f"{line.compile_seconds:.1f}",
            str(line.compilations),
        )
    console.print(table)


def _print_calls(lines: list[Call], limits: Limits) -> None:
    console.print(
        f"limits: {limits.products / 1e9:,.0f} GFLOP/s in a matrix product, "
        f"{limits.reading / 1e9:,.1f} GB/s read"
    )
    table = _table("denoiser call", "batch", "ms", "% of products", "% of reading")
    for line in lines:
        shares = line.share_of_products, line.share_of_reading
        table.add_row(
            line.kind,
            str(line.batch),
            f"{line.milliseconds:.2f}",
            *(f"{100 * share:.1f}" for share in shares),
        )
    console.print(table)


def _table(*names: str) -> Table:
    table = Table()
    for name in names:
        table.add_column(name, justify="right")
    return table


PRESETS = {
    "default": Config(),
    "tiny": Config(
        model=replace(
            MEDIUM, vocab=64, embeddings=64, width=32, depth=2, heads=2, kv_heads=2, mlp=48
        ),
        prompt=4,
        gen_length=16,
        block_length=8,
        steps=8,
        batch_sizes=(1, 2),
        repeats=1,
    ),
    "llada_8b": Config(model=LLADA_8B, prompt=256, gen_length=256, steps=128),
}

if __name__ == "__main__":
    cli.main(Config, run, __doc__, PRESETS)
