"""Training the head that predicts dependences: the compiled update."""

from functools import partial
from typing import NamedTuple

import jax
import optax
from jaxtyping import Array, Bool, Int

from mdm_jax.chunks import canvases_at_once, map_rows
from mdm_jax.denoisers.base import DenoiseHidden
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.orders.dependence import Labels, labelled, pair_loss
from mdm_jax.policies.networks.pair_network import PairNetwork
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.training.loop import Update
from mdm_jax.training.state import Metrics, Params, TrainState, train_step
from mdm_jax.types import RowKey, Scalar


class PairBatch(NamedTuple):
    """Clean sequences, and which of their positions are generated."""

    tokens: Int[Array, "rows length"]
    maskable: Bool[Array, "rows length"]


def pair_update(
    network: PairNetwork,
    denoise: DenoiseHidden,
    labels: Labels,
    config: SamplerConfig,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
) -> Update:
    """The compiled update. Denoiser and labels are arguments of the program, not constants in it."""

    @partial(jax.jit, donate_argnums=0)
    def update(
        state: TrainState, key: RowKey, batch: PairBatch, denoise: DenoiseHidden, labels: Labels
    ) -> tuple[TrainState, Metrics]:
        def one(row: tuple) -> tuple:
            return labelled(*row, denoise, labels, config)

        size = canvases_at_once(batch.tokens.shape[1], config.pad_id, config.gen_length)
        keys = row_keys(key, jax.numpy.arange(len(batch.tokens)))
        data = map_rows(one, (keys, *batch), size)

        def loss(params: Params, key: RowKey, data: tuple) -> tuple[Scalar, Metrics]:
            hidden, known = data
            predicted = jax.vmap(partial(network.apply, {"params": params}))(hidden)
            return pair_loss(predicted, known)

        return train_step(state, key, data, loss=loss, optimizer=optimizer, ema_decay=ema_decay)

    return partial(update, denoise=denoise, labels=labels)
