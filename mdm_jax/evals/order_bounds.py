"""The bound of a learned order beside that of its denoiser over all orders, on held-out sequences."""

from typing import NamedTuple

from mdm_jax.denoisers.base import Denoise
from mdm_jax.evals.likelihood import heldout_likelihood
from mdm_jax.orders.variational.evaluation import FittedOrder, OrderBound, order_bound
from mdm_jax.orders.variational.model import Sequence
from mdm_jax.tasks.base import Batch, Task, heldout_title
from mdm_jax.types import RowKey


class OrderBounds(NamedTuple):
    """Nats per sequence."""

    order: OrderBound
    any_order_nelbo: float

    def as_json(self) -> dict[str, float]:
        """All values by name."""
        return self.order._asdict() | {"any_order_nelbo": self.any_order_nelbo}

    def summary(self, task: Task) -> str:
        """Both as lines of text, on sequences of `task.heldout()`."""
        found = self.order
        return (
            f"{heldout_title(task)}: {found.nelbo:.3f} +- {1.96 * found.error:.3f} nats per sequence\n"
            f"  = {found.token_nll:.3f} tokens + {found.kl:.3f} KL(posterior || policy); without "
            f"padding {found.content_token_nll:.3f} + {found.content_kl:.3f}\n"
            f"  posterior entropy {found.posterior_entropy:.3f} nats, {found.steps_used:.2f} steps\n"
            f"  {self.any_order_nelbo:.3f} nats is the any-order bound of the same denoiser"
        )


def order_bounds(
    key: RowKey, order: FittedOrder, data: Batch, denoise: Denoise, task: Task, batch_size: int
) -> OrderBounds:
    """Both bounds on clean sequences with their prompts shown.

    Args:
      batch_size: sequences that fit in memory when the order is learned.
    """
    bound = order_bound(key, order, Sequence(*data), denoise, batch_size=min(64, batch_size))
    any_order = heldout_likelihood(
        key,
        denoise,
        data,
        task.vocabulary,
        window=task.gen_length,
        batch_size=min(16, batch_size),
    )
    return OrderBounds(bound, any_order.nelbo_per_token * any_order.tokens_per_sequence)
