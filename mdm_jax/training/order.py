"""Training an order: the optimisers of its parts, and the compiled update."""

from functools import partial

import jax
import optax

from mdm_jax.compiling import jit_update
from mdm_jax.denoisers.base import Denoise
from mdm_jax.orders.variational.loss import OrderBatch, OrderParts, order_loss
from mdm_jax.orders.variational.objective import OrderObjective
from mdm_jax.training.loop import Update
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import Metrics, TrainState, train_step
from mdm_jax.types import RowKey


def order_optimizer(
    posterior: OptimizerConfig,
    policy: OptimizerConfig,
    denoiser: OptimizerConfig | None,
    steps: int,
) -> optax.GradientTransformation:
    """An optimiser for each part; `denoiser` is None unless it is fine-tuned jointly."""
    configs = {"posterior": posterior, "policy": policy}
    if denoiser is not None:
        configs["denoiser"] = denoiser
    optimizers = {name: make_optimizer(config, steps) for name, config in configs.items()}
    return optax.multi_transform(
        optimizers | {"choice": optax.set_to_zero()},  # learned before the first update
        lambda params: {name: name for name in params},
    )


def order_update(
    parts: OrderParts,
    objective: OrderObjective,
    optimizer: optax.GradientTransformation,
    denoise: Denoise,
    ema_decay: float,
) -> Update:
    """The compiled update. The denoiser is an argument of the program, not a constant in it."""

    @partial(jit_update, donate_argnums=0)
    def update(
        state: TrainState, key: RowKey, batch: OrderBatch, denoise: Denoise
    ) -> tuple[TrainState, Metrics]:
        fixed = {"parts": parts, "objective": objective, "devices": jax.device_count()}
        loss = partial(order_loss, denoise=denoise, **fixed)
        return train_step(state, key, batch, loss=loss, optimizer=optimizer, ema_decay=ema_decay)

    return partial(update, denoise=denoise)
