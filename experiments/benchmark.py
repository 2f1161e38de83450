"""Time of denoiser calls, sampler steps, training steps and GRPO iterations on this machine.

All times are medians of interleaved repetitions, compilation apart. The share of the measured peak is
the FLOPs of the transformer's matrix products over the time, relative to the FLOP/s of a large matrix
product of the same type measured in the same run.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import jax

from experiments import _cli as cli
from experiments._cli.console import console, print_costs
from mdm_jax.denoisers.transformer import TransformerConfig
from mdm_jax.errors import MdmError
from mdm_jax.profiling import torch_reference
from mdm_jax.profiling.step_cost import StepCost, Workload, comparisons, measure_steps
from mdm_jax.profiling.timing import peak_matmul_flops


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the benchmark.

    Attributes:
      model: the transformer.
      vocab: ids it can produce.
      length: positions of a canvas, all MASK.
      batch_size: canvases.
      steps: sampler steps, each of which reveals length / steps positions; budget of the learned order
        and of every rollout.
      samples: paths of each sequence in an order step, which has batch_size paths in all and trains the
        denoiser jointly, so that its passes are those of a training step; and rollouts of each prompt
        in a GRPO iteration, which has batch_size in all.
      repeats: of every measurement.
      against: "torch" measures the training step and the denoiser call of an equal transformer in eager
        PyTorch beside ours, where it is installed; on a CPU.
    """

    model: TransformerConfig = field(default_factory=lambda: TransformerConfig(width=256, depth=4))
    vocab: int = 1024
    length: int = 128
    batch_size: int = 16
    steps: int = 8
    samples: int = 8
    repeats: int = 5
    against: Literal["torch"] | None = None

    def __post_init__(self) -> None:
        if min(self.vocab, self.length, self.batch_size, self.repeats) < 1:
            raise MdmError("vocab, length, batch_size and repeats must be at least 1")
        if not 1 <= self.steps <= self.length:
            raise MdmError(f"steps must be between 1 and length {self.length}, got {self.steps}")
        if self.samples < 2 or self.batch_size % self.samples:
            raise MdmError(
                f"samples must be at least 2 and divide batch_size {self.batch_size}, got {self.samples}"
            )
        if self.against and self.model.dtype != "float32":
            raise MdmError(f"against {self.against} compares float32, not {self.model.dtype}")
        if self.against and self.model.attention != "softmax":
            raise MdmError(f"against {self.against} compares softmax, not {self.model.attention}")

    @property
    def workload(self) -> Workload:
        """The settings without those of measuring."""
        return cli.select(Workload, self)


def run(config: Config) -> list[StepCost]:
    """Measure, print, return the rows of the table."""
    if config.against:
        torch_reference.load_torch()
    peak_flops = peak_matmul_flops(config.model.dtype, config.repeats)
    costs = measure_steps(config.workload, peak_flops, config.repeats)
    _print(config, costs, peak_flops)
    if config.against:
        console.print(torch_reference.compare(config.workload, config.repeats))
    return costs


def _print(config: Config, costs: list[StepCost], peak_flops: float) -> None:
    flops, device = config.workload.forward_flops(), jax.devices()[0].device_kind
    title = (
        f"{device}, width {config.model.width}, depth {config.model.depth}, vocab {config.vocab}, "
        f"{config.batch_size} x {config.length} tokens, {config.model.dtype}: "
        f"{flops / 1e9:.2f} GFLOP per call, measured peak {peak_flops / 1e9:,.0f} GFLOP/s"
    )
    print_costs([cost.cells() for cost in costs], title)
    console.print(comparisons(costs, config.workload))


PRESETS = {
    "default": Config(),
    "tiny": replace(Config(), model=TransformerConfig(), vocab=4, length=16, batch_size=256),
}

if __name__ == "__main__":
    cli.main(Config, run, __doc__, PRESETS)
