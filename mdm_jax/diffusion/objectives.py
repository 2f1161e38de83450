"""Training objectives of a denoiser: how a clean sequence is masked, and the weight of each view.

For t uniform in (0, 1], mean over views of weight * masked_nll is an unbiased estimate of a bound on
-log p(tokens), nats per sequence. Prompts are left out of `maskable` and never masked, which makes
`Continuous` the LLaDA fine-tuning loss.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mdm_jax.diffusion.corruption import (
    antithetic_masks,
    complement_masks,
    mask_at_rate,
    mask_exactly,
)
from mdm_jax.diffusion.elbo import any_order_nelbo, continuous_nelbo, discrete_nelbo
from mdm_jax.diffusion.schedules import Linear, Schedule
from mdm_jax.types import Mask, RowKey, Scalar

Views = tuple[
    Bool[Array, "views length"], Float[Array, " views"] | Float[Array, "views length"]
]  # the weight of a view, or of each of its positions


@runtime_checkable
class Objective(Protocol):
    """Draws the masked views of one sequence and their weights."""

    def draw(self, key: RowKey, maskable: Mask, t: Scalar) -> Views: ...


@dataclass(frozen=True)
class Continuous:
    """The continuous-time bound: rate 1 - alpha(t), weight -alpha'/(1 - alpha). MD4, LLaDA, SMDM."""

    schedule: Schedule = field(default_factory=Linear)

    def draw(self, key: RowKey, maskable: Mask, t: Scalar) -> Views:
        mask = mask_at_rate(key, maskable, 1.0 - self.schedule.alpha(t))
        return mask[None], continuous_nelbo(jnp.ones((), jnp.float32), t, self.schedule)[None]


@dataclass(frozen=True)
class AnyOrder:
    """The same bound with bounded weights: exactly ceil(t * maskable) masks, weight maskable/count."""

    def draw(self, key: RowKey, maskable: Mask, t: Scalar) -> Views:
        total = jnp.sum(maskable)
        count = jnp.ceil(t * total).astype(jnp.int32)
        mask = mask_exactly(key, maskable, count)
        return mask[None], any_order_nelbo(jnp.ones((), jnp.float32), total, count)[None]


@dataclass(frozen=True)
class Discrete:
    """The bound of the sampler that takes `steps` steps, every position revealed independently."""

    steps: int = 10
    schedule: Schedule = field(default_factory=Linear)

    def draw(self, key: RowKey, maskable: Mask, t: Scalar) -> Views:
        step = jnp.maximum(jnp.ceil(t * self.steps), 1).astype(jnp.int32)
        mask = mask_at_rate(key, maskable, 1.0 - self.schedule.alpha(step / self.steps))
        return mask[None], discrete_nelbo(
            jnp.ones((), jnp.float32), step, jnp.asarray(self.steps), self.schedule
        )[None]


@dataclass(frozen=True)
class Complement:
    """Anti-masking (a): a mask at rate t and its complement at rate 1 - t, linear schedule."""

    def draw(self, key: RowKey, maskable: Mask, t: Scalar) -> Views:
        rates = jnp.maximum(jnp.stack([t, 1.0 - t]), 1e-6)  # an empty view may have rate 0
        return complement_masks(key, maskable, t), 1.0 / rates


@dataclass(frozen=True)
class Antithetic:
    """Anti-masking (b): two masks at the same rate from uniforms u and 1 - u."""

    schedule: Schedule = field(default_factory=Linear)

    def draw(self, key: RowKey, maskable: Mask, t: Scalar) -> Views:
        masks = antithetic_masks(key, maskable, 1.0 - self.schedule.alpha(t))
        weight = continuous_nelbo(jnp.ones((), jnp.float32), t, self.schedule)
        return masks, jnp.broadcast_to(weight, (2,))


TimeSampler = Callable[[RowKey, int], Float[Array, " batch"]]
