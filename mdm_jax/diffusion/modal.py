"""The continuous-time bound of canvases with several modalities, each masked on a schedule of its own."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdm_jax.diffusion.objectives import Views
from mdm_jax.diffusion.schedules import Linear, Schedule, per_masked
from mdm_jax.errors import MdmError, check_range
from mdm_jax.streams import OUTSIDE, Stream
from mdm_jax.types import Mask, RowKey, Scalar


@dataclass(frozen=True)
class Modal:
    """A schedule for each modality, times that differ between them, and prompts that are dropped.

    Modality m is masked at rate 1 - alpha_m(t^r_m), with weight -d alpha_m(t^r_m)/dt over that rate: for
    any schedules the sum is a bound, and so is its mean over random exponents r_m. (Times of modalities
    drawn independently, each term with its own weight, give none: see tests/diffusion/test_modal.py.)
    Reference: MD4, arXiv:2406.04329, section on rates that depend on the token, here on the position.

    Args:
      schedules: of each modality, in the order of the stream; or one for all.
      spread: standard deviation of log r_m, drawn for each sequence and modality; 0: one time for all.
      drop: probability that all that a sequence's prompt shows is masked, for guidance.
    """

    schedules: tuple[Schedule, ...] = field(default_factory=lambda: (Linear(),))
    spread: float = 0.0
    drop: float = 0.0

    def __post_init__(self) -> None:
        check_range("spread", self.spread, 0)
        check_range("drop", self.drop, 0, 1)

    def on(self, stream: Stream) -> "ModalViews":
        """The objective for canvases of these modalities.

        Raises:
          MdmError: there are neither one schedule nor as many as modalities.
        """
        schedules, count = self.schedules, len(stream.spans)
        if len(schedules) not in (1, count):
            raise MdmError(f"schedules must be 1 or {count} ({', '.join(stream.names)})")
        return ModalViews(self, stream, schedules * (count if len(schedules) == 1 else 1))


@dataclass(frozen=True)
class ModalViews:
    """`Modal` on a stream: meets `Objective`, with a weight for each position."""

    settings: Modal
    stream: Stream
    schedules: tuple[Schedule, ...]

    def draw(self, key: RowKey, maskable: Mask, t: Scalar) -> Views:
        k_mask, k_exponents, k_drop = jax.random.split(key, 3)
        noise = jax.random.normal(k_exponents, (len(self.schedules),), jnp.float32)
        rate, weight = self.rates(t, jnp.exp(self.settings.spread * noise))
        mask = maskable & (jax.random.uniform(k_mask, maskable.shape, jnp.float32) < rate)
        inside = jnp.asarray(self.stream.modality != OUTSIDE)
        dropped = jax.random.bernoulli(k_drop, self.settings.drop) & inside & ~maskable
        return (mask | dropped)[None], jnp.where(mask, weight, 0.0)[None]

    def rates(
        self, t: Scalar, exponents: Float[Array, " modalities"]
    ) -> tuple[Float[Array, " length"], Float[Array, " length"]]:
        """Probability that each position is masked at time t, and its weight; 0 outside the spans."""
        found = []
        for schedule, exponent in zip(self.schedules, exponents, strict=True):
            alpha, slope = jax.value_and_grad(lambda t, s=schedule, r=exponent: s.alpha(t**r))(t)
            found.append((1.0 - alpha, per_masked(-slope, alpha)))
        found.append((jnp.zeros(()), jnp.zeros(())))  # `OUTSIDE` is the last
        number = np.asarray(self.stream.modality)
        return tuple(jnp.stack(values)[number] for values in zip(*found, strict=True))
