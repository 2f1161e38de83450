"""The contract of a posterior's form, and the path of reveals that it draws."""

from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mdm_jax.policies.action_distributions import ActionDistribution, Utilities
from mdm_jax.types import Count, Mask, RowKey, Scalar

Priorities = Float[Array, " length"]


class StepTerms(NamedTuple):
    """The next reveal, integrated out: of each position, 0 where it is not masked."""

    reveal: Float[Array, " length"]  # its probability under q
    kl: Float[Array, " length"]  # KL(q || policy), nats
    entropy: Float[Array, " length"]  # of q, nats


class Path(NamedTuple):
    """Where a path of reveals stands."""

    is_masked: Mask
    log_prob: Scalar  # log q of all reveals so far, nats


@runtime_checkable
class Form(Protocol):
    """q(next reveal | what is masked, clean tokens), from one priority per position.

    Priorities are scores divided by the temperature: they are computed once per sequence and the
    path needs no network. `left` is the number of steps left, this one included; the last step
    (left = 1) reveals everything under posterior and policy alike and is never asked for.

    Attributes:
      family: what the policy's utilities mean for this form.
      induces_order: whether scores far enough apart force an order.
    """

    family: ActionDistribution
    induces_order: bool

    def draw(
        self, key: RowKey, priorities: Priorities, is_masked: Mask, left: Count
    ) -> tuple[Mask, Scalar]:
        """The positions to reveal now, and their log-probability."""
        ...

    def terms(
        self,
        priorities: Priorities,
        utilities: Utilities,
        is_masked: Mask,
        left: Count,
    ) -> StepTerms: ...


def close_after(is_masked: Mask, response: Mask, ends: Mask) -> Mask:
    """What stays masked when a revealed EOS closes all that follows it.

    Args:
      ends: where the clean sequence has EOS; all False: no such rule.
    """
    shown = ends & response & ~is_masked
    return is_masked & (jnp.cumsum(shown) - shown == 0)


def draw_path(
    key: RowKey,
    form: Form,
    priorities: Priorities,
    maskable: Mask,
    stop: Count,
    budget: int,
    ends: Mask,
) -> Path:
    """The state of one path after `stop` of at most `budget` - 1 drawn steps. No network calls.

    Args:
      priorities: scores / temperature.
      maskable: what is masked at the start.
      stop: steps to take, 0..budget - 1.
      ends: where the clean sequence has EOS: once one is revealed, what follows is closed at no cost,
        as the sampler does it. All False: no such rule.
    """

    def advance(path: Path, step: Count) -> tuple[Path, None]:
        k_step = jax.random.fold_in(key, step)
        reveal, log_prob = form.draw(k_step, priorities, path.is_masked, budget - step)
        new = Path(close_after(path.is_masked & ~reveal, maskable, ends), path.log_prob + log_prob)
        return jax.tree.map(lambda a, b: jnp.where(step < stop, a, b), new, path), None

    return jax.lax.scan(
        advance, Path(maskable, jnp.zeros((), jnp.float32)), jnp.arange(budget - 1)
    )[0]
