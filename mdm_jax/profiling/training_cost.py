"""What an update of a denoiser costs, from shapes alone: nothing is allocated and nothing run."""

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mdm_jax.compiling import jit_update
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.diffusion.corruption import stratified_times
from mdm_jax.diffusion.objectives import Continuous
from mdm_jax.keys import root_key
from mdm_jax.profiling.flops import program_flops
from mdm_jax.streams import Stream
from mdm_jax.training.denoiser import init_params
from mdm_jax.training.losses import CanvasIds, Modalities, TokenBatch, denoising_loss
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import init_state, train_step


@dataclass(frozen=True, kw_only=True)
class TrainingShape:
    """The shapes that the cost of an update depends on.

    Attributes:
      model: the transformer.
      vocab: ids it can produce.
      length: positions of a sequence.
      batch_size: sequences of an update on one device.
      micro_batches: slices of them whose gradients are accumulated.
      stream: the modalities of a sequence; None: one.
    """

    model: TransformerConfig
    vocab: int
    length: int
    batch_size: int
    micro_batches: int = 1
    stream: Stream | None = None

    @property
    def module(self) -> Transformer:
        """The network."""
        return Transformer(self.model, self.vocab, self.stream)


class TrainingCost(NamedTuple):
    """What an update costs."""

    parameters: int
    embeddings: int  # of these, in the embedding and the unembedding
    state_bytes: int  # parameters, their average, and the optimiser's moments
    flops: float  # of the losses and gradients of an update


class Compiled(NamedTuple):
    """Memory of the compiled update on one device."""

    arguments: int  # bytes of state and batch
    temporaries: int  # bytes of activations and gradients at most
    seconds: float  # of tracing and compiling


def training_cost(shape: TrainingShape) -> TrainingCost:
    """Parameters, bytes and FLOPs.

    FLOPs are counted by XLA before optimisation, of networks of one and two blocks: every further
    block adds as many as the second one does. The optimiser's are left out.
    """
    params = _params(shape)
    state = jax.eval_shape(partial(init_state, optimizer=_optimizer(shape)), params)
    ends = [params["embed"], params["unembed"]]
    one, two = (_sequence_flops(shape, depth) for depth in (1, 2))
    flops = shape.batch_size * (one + (shape.model.depth - 1) * (two - one))
    return TrainingCost(_count(params), _count(ends), _bytes(state), flops)


def compiled_memory(shape: TrainingShape) -> Compiled:
    """Memory of an update, compiled for this machine's device."""
    state = jax.eval_shape(partial(init_state, optimizer=_optimizer(shape)), _params(shape))
    loss, batch = _loss(shape, shape.module), _batch(shape, shape.batch_size)
    update = partial(
        train_step, loss=loss, optimizer=_optimizer(shape), micro_batches=shape.micro_batches
    )
    start = time.perf_counter()
    compiled = jit_update(update, donate_argnums=0).lower(state, _key(), batch).compile()
    found = compiled.memory_analysis()
    seconds = time.perf_counter() - start
    return Compiled(found.argument_size_in_bytes, found.temp_size_in_bytes, seconds)


def _params(shape: TrainingShape) -> Any:
    """Shapes of the parameters."""
    return jax.eval_shape(lambda: init_params(shape.module, root_key(0), shape.length, shape.vocab))


def _sequence_flops(shape: TrainingShape, depth: int) -> float:
    """FLOPs of loss and gradient of one sequence, of a network of so many blocks."""
    small = replace(shape, model=replace(shape.model, depth=depth, scan=False))
    gradient = jax.grad(_loss(small, small.module), has_aux=True)
    return program_flops(gradient, _params(small), _key(), _batch(small, 1))


def _loss(shape: TrainingShape, module: Transformer) -> Any:
    modalities = None if shape.stream is None else Modalities(shape.stream)
    return partial(
        denoising_loss,
        module=module,
        objective=Continuous(),
        times=stratified_times,
        ids=CanvasIds(shape.vocab, shape.vocab + 1, modalities=modalities),
    )


def _optimizer(shape: TrainingShape) -> Any:
    return make_optimizer(OptimizerConfig(), 1000, shape.model)


def _batch(shape: TrainingShape, size: int) -> TokenBatch:
    dims = size, shape.length
    return TokenBatch(jax.ShapeDtypeStruct(dims, jnp.int32), jax.ShapeDtypeStruct(dims, bool))


def _key() -> Any:
    return jax.eval_shape(lambda: root_key(0))


def _count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
