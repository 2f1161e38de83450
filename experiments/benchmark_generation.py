"""Time of generating with a published denoiser's shape on this machine, with and without a cache.

Weights are random, so the time counts, not the text. Prompts are the same for all settings, and fixed
counts make the same number of denoiser calls whatever the weights. The first table is of whole
generations, compilation apart; the second is of single denoiser calls, relative to two peak rates
measured in the same run: a large matrix product, and reading a large array once.
"""

from dataclasses import dataclass, field, replace

import jax

from experiments import _cli as cli
from experiments._cli.console import console, print_costs
from mdm_jax.denoisers.pretrained.config import PretrainedConfig
from mdm_jax.denoisers.pretrained.llada import LLADA_8B
from mdm_jax.errors import MdmError
from mdm_jax.profiling.denoiser_cost import CallCost, measure_calls
from mdm_jax.profiling.generation_cost import (
    MEDIUM,
    Cache,
    GenerationCost,
    GenerationWorkload,
    measure_generations,
)
from mdm_jax.profiling.timing import measure_peaks


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the benchmark.

    Attributes:
      model: shape and type of the denoiser; the last id of its vocabulary is MASK.
      prompt: positions that are given.
      gen_length: positions that are generated.
      block_length: of a block.
      steps: denoiser calls of a generation with fixed counts, and the most of one with a threshold.
      threshold: of `ConfidenceThreshold`. Random weights are never confident: expect `steps` calls.
      temperature: of the token draws; 0 takes the most probable tokens.
      caches: keys and values that are kept between calls.
      batch_sizes: sequences generated together.
      repeats: of every measurement.
    """

    model: PretrainedConfig = field(default_factory=lambda: MEDIUM)
    prompt: int = 32
    gen_length: int = 128
    block_length: int = 32
    steps: int = 64
    threshold: float = 0.9
    temperature: float = 0.0
    caches: tuple[Cache, ...] = ("none", "prefix", "dual")
    batch_sizes: tuple[int, ...] = (1, 8)
    repeats: int = 3

    def __post_init__(self) -> None:
        _ = self.workload  # which checks its own settings
        if not self.caches or not self.batch_sizes:
            raise MdmError("give at least one of --caches and one of --batch_sizes")
        if min(self.prompt, self.repeats, *self.batch_sizes) < 1:
            raise MdmError("prompt, repeats and batch_sizes must be at least 1")

    @property
    def workload(self) -> GenerationWorkload:
        """The settings without those of measuring."""
        return cli.select(GenerationWorkload, self)


def run(config: Config) -> tuple[list[GenerationCost], list[CallCost]]:
    """Measure, print, return the rows of both tables."""
    work, repeats = config.workload, config.repeats
    denoise = work.denoise()
    generations = [
        cost
        for batch in config.batch_sizes
        for cost in measure_generations(work, denoise, config.caches, batch, repeats)
    ]
    console.print(f"{jax.devices()[0].device_kind}: {work.summary()}")
    print_costs([cost.cells(config.gen_length) for cost in generations])
    peaks = measure_peaks(config.model.dtype, repeats)
    calls = [
        cost
        for batch in config.batch_sizes
        for cost in measure_calls(
            denoise, work.canvases(batch), config.block_length, peaks, repeats
        )
    ]
    console.print(peaks.summary())
    print_costs([cost.cells() for cost in calls])
    return generations, calls


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
