"""Time of whole generations of a published denoiser, with and without a cache."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mdm_jax.denoisers.attention import choose
from mdm_jax.denoisers.base import Bound, bind
from mdm_jax.denoisers.pretrained.config import PretrainedConfig
from mdm_jax.denoisers.pretrained.network import PretrainedTransformer
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.errors import MdmError, check_range
from mdm_jax.keys import root_key
from mdm_jax.policies.base import Policy
from mdm_jax.policies.heuristics import ConfidenceThreshold, TopConfidence
from mdm_jax.profiling.timing import Job, compile_job, interleaved
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample

Cache = Literal["none", "prefix", "dual"]
# the configuration that other samplers of the field were timed with
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


class GenerationCost(NamedTuple):
    """Time of generating one batch."""

    policy: str
    cache: str
    batch: int
    calls: int
    seconds: float
    compile_seconds: float
    compilations: int

    def cells(self, gen_length: int) -> dict[str, str]:
        """A line of a table, by column.

        Args:
          gen_length: positions that each sequence generates.
        """
        rate = self.batch / self.seconds
        return {
            "policy": self.policy,
            "cache": self.cache,
            "batch": str(self.batch),
            "calls": str(self.calls),
            "s per sequence": f"{1 / rate:.3g}",
            "sequences/s": f"{rate:.3g}",
            "tokens/s": f"{rate * gen_length:,.0f}",
            "ms per call": f"{1e3 * self.seconds / self.calls:.1f}",
            "compile s": f"{self.compile_seconds:.1f}",
            "compilations": str(self.compilations),
        }


@dataclass(frozen=True, kw_only=True)
class GenerationWorkload:
    """A denoiser with random weights, and random prompts to complete.

    Attributes:
      model: shape and type of the denoiser; the last id of its vocabulary is MASK.
      prompt: positions that are given.
      gen_length: positions that are generated.
      block_length: of a block.
      steps: denoiser calls of a generation with fixed counts, and the most of one with a threshold.
      threshold: of `ConfidenceThreshold`.
      temperature: of the token draws.
    """

    model: PretrainedConfig
    prompt: int
    gen_length: int
    block_length: int
    steps: int
    threshold: float
    temperature: float = 0.0

    def __post_init__(self) -> None:
        if self.block_length < 1 or self.gen_length < 1:
            raise MdmError(
                f"block_length {self.block_length} and gen_length {self.gen_length} must be at least 1"
            )
        if self.gen_length % self.block_length:
            raise MdmError(
                f"block_length {self.block_length} does not divide gen_length {self.gen_length}"
            )
        if self.steps < self.gen_length // self.block_length:
            raise MdmError(f"steps {self.steps} are less than one call for each block")
        check_range("temperature", self.temperature, 0)

    def summary(self) -> str:
        """Shape and type of the denoiser, the canvas, and the attention kernel on this machine."""
        model = self.model
        chosen = choose(model.attention, jax.default_backend(), jnp.dtype(model.dtype), model.dim)
        return (
            f"width {model.width}, depth {model.depth}, vocab {model.vocab}, "
            f"{model.dtype}; {self.prompt} + {self.gen_length} positions in blocks of "
            f"{self.block_length}; attention: {chosen.implementation} ({chosen.why})"
        )

    @property
    def mask_id(self) -> int:
        return self.model.vocab - 1

    def denoise(self) -> Bound:
        """The denoiser with fresh random parameters."""
        module = PretrainedTransformer(self.model)
        return bind(module, random_params(module, root_key(0)))

    def canvases(self, batch: int) -> Int[Array, "batch length"]:
        """Prompts followed by MASK."""
        shape = batch, self.prompt
        prompts = jax.random.randint(root_key(1), shape, 0, self.mask_id)
        masks = jnp.full((batch, self.gen_length), self.mask_id)
        return jnp.concatenate([prompts, masks], axis=1)

    def policies(self) -> dict[str, Policy]:
        """Those that are compared, by name."""
        return {
            "fixed steps": TopConfidence(self.steps),
            "threshold": ConfidenceThreshold(self.threshold),
        }

    def sampler(self, cache: Cache) -> SamplerConfig:
        """The sampler's settings with a cache."""
        return SamplerConfig(
            mask_id=self.mask_id,
            pad_id=self.model.vocab,
            budget=self.steps,
            block_length=self.block_length,
            gen_length=self.gen_length,
            temperature=self.temperature,
            cache=None if cache == "none" else cache,
        )


def random_params(module: PretrainedTransformer, key: jax.Array) -> dict:
    """Matrices drawn with deviation 0.02, everything else 1; one at a time, to save memory."""
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


def measure_generations(
    work: GenerationWorkload, denoise: Bound, caches: tuple[Cache, ...], batch: int, repeats: int
) -> list[GenerationCost]:
    """The cost of every policy with every cache: medians of interleaved runs, compilation apart."""
    jobs = {
        (name, cache): _generation(work, denoise, policy, cache, batch)
        for name, policy in work.policies().items()
        for cache in caches
    }
    compiled = {setting: compile_job(job) for setting, job in jobs.items()}
    times = interleaved(jobs, repeats)
    costs = []
    for setting, first in compiled.items():
        calls, seconds = int(first.result.max()), times[setting]
        costs.append(
            GenerationCost(*setting, batch, calls, seconds, first.seconds, first.compilations)
        )
    return costs


def _generation(
    work: GenerationWorkload, denoise: Bound, policy: Policy, cache: Cache, batch: int
) -> Job:
    """Generates the batch, and returns the denoiser calls of each sequence."""
    keys = row_keys(root_key(2), jnp.arange(batch))
    canvases, config = work.canvases(batch), work.sampler(cache)
    return lambda: sample(keys, canvases, denoise=denoise, policy=policy, config=config).nfe
