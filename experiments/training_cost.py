"""What training a denoiser of some shape costs: parameters, memory, FLOPs; nothing is allocated or run.

--preset 3b is a shape in the spirit of the tri-modal model of arXiv:2602.21472. Known of that one are
3 billion parameters, 6.4 trillion tokens and one bidirectional transformer for all modalities. Width,
depth, vocabularies, lengths and the batch are not known, and chosen here.
"""

from dataclasses import dataclass, field

from experiments import _cli as cli
from experiments._cli.console import console, print_once
from mdm_jax.denoisers.transformer import TransformerConfig
from mdm_jax.errors import MdmError, check_range
from mdm_jax.profiling.training_cost import (
    Compiled,
    TrainingCost,
    TrainingShape,
    compiled_memory,
    training_cost,
)
from mdm_jax.streams import Span, Stream

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a training whose cost is asked for.

    Attributes:
      model: the transformer.
      vocab: ids it can produce.
      length: positions of a sequence.
      batch_size: sequences of an update on one device.
      micro_batches: slices of them whose gradients are accumulated.
      tokens: of the whole training, on all devices.
      stream: the modalities of a sequence; set by the preset.
      compile: compile the update for this machine's device, and say what memory it takes.
    """

    model: TransformerConfig = field(default_factory=TransformerConfig)
    vocab: int = 4
    length: int = 16
    batch_size: int = 128
    micro_batches: int = 1
    tokens: float = 3e6
    stream: cli.Fixed[Stream | None] = None
    compile: bool = True

    def __post_init__(self) -> None:
        for name in ("vocab", "length", "batch_size", "micro_batches"):
            check_range(name, getattr(self, name), 1)
        check_range("tokens", self.tokens, above=0)
        if self.batch_size % self.micro_batches:
            raise MdmError(
                f"micro_batches {self.micro_batches} does not divide batch_size {self.batch_size}"
            )
        if self.stream is not None and self.stream.length != self.length:
            raise MdmError(
                f"the preset's sequences have {self.stream.length} positions: leave --length"
            )


def run(config: Config) -> tuple[TrainingCost, Compiled | None]:
    """Print and return what it costs."""
    shape = cli.select(TrainingShape, config)
    cost = training_cost(shape)
    for line in described(config, cost):
        print_once(line)
    if not config.compile:
        return cost, None
    with console.status("compiling"):
        memory = compiled_memory(shape)
    print_once(
        f"compiled for this device in {memory.seconds:.0f} s: {memory.arguments / GIB:.2f} GiB of state "
        f"and batch, {memory.temporaries / GIB:.2f} GiB of activations and gradients"
    )
    return cost, memory


def described(config: Config, cost: TrainingCost) -> list[str]:
    """The cost in sentences."""
    tokens = config.batch_size * config.length
    per_token = cost.flops / tokens
    return [
        f"{cost.parameters:,} parameters, {cost.embeddings:,} of them in embedding and unembedding",
        f"{cost.state_bytes / GIB:.2f} GiB of parameters, their average and two moments",
        f"an update of {tokens:,} tokens: {cost.flops:.3g} FLOPs, {per_token:.3g} a token, which is "
        f"{per_token / cost.parameters:.2f} a parameter",
        f"{config.tokens:.3g} tokens: {config.tokens * per_token:.3g} FLOPs in "
        f"{config.tokens / tokens:,.0f} such updates",
    ]


TEXT, IMAGE, SPEECH = 65_536, 16_384, 16_384  # ids
PAIRED = Stream(  # a task token, and two boundaries of each modality
    2048,
    (
        Span("text", 2, 512, 0, TEXT),
        Span("image", 516, 1024, TEXT, IMAGE, (32, 32)),
        Span("speech", 1542, 505, TEXT + IMAGE, SPEECH),
    ),
)
PRESETS = {
    "default": Config(),
    "3b": Config(
        model=TransformerConfig(
            width=2560,
            depth=32,
            heads=20,
            modality_embedding=True,
            grid_rope=True,
            dtype="bfloat16",
            remat=True,
            scan=True,
        ),
        vocab=TEXT + IMAGE + SPEECH + 16,
        length=PAIRED.length,
        batch_size=64,
        micro_batches=64,
        tokens=6.4e12,
        stream=PAIRED,
    ),
}

if __name__ == "__main__":
    cli.main(Config, run, __doc__, PRESETS)
