"""What an order reveals, and one denoiser call at a state of it."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax.chunks import canvases_at_once
from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import apply_mask
from mdm_jax.diffusion.elbo import token_nll
from mdm_jax.errors import MdmError
from mdm_jax.orders.variational.forms.base import Form
from mdm_jax.sampling.tokens import mask_logits
from mdm_jax.types import Mask, Tokens

Hidden = Float[Array, "window features"] | None


@dataclass(frozen=True)
class OrderModel:
    """The model whose order is learned: everything but its networks.

    Attributes:
      form: of the posterior.
      budget: steps that a sequence may take.
      mask_id, pad_id: the two ids that are not tokens.
      window: the response is this many positions from the first maskable one; None: all positions.
      eos_id: where given, what follows a revealed EOS is closed at no cost, as the sampler does it.
      hidden: whether the denoiser's hidden states are features of the policy.
    """

    form: Form
    budget: int
    mask_id: int
    pad_id: int
    window: int | None = None
    eos_id: int | None = None
    hidden: bool = False

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise MdmError(f"budget must be at least one step, got {self.budget}")


class Sequence(NamedTuple):
    """One clean sequence, its prompt left out of `maskable`."""

    tokens: Tokens
    maskable: Mask


class SpecialIds(NamedTuple):
    """The two ids that are not tokens."""

    mask_id: int
    pad_id: int


def calls_at_once(length: int, model: OrderModel) -> int:
    """Denoiser calls on canvases of `length` that are made together, at least 1."""
    return canvases_at_once(length, model.pad_id, model.window)


def response(sequence: Sequence, model: OrderModel) -> Int[Array, " window"]:
    """The canvas positions that are generated."""
    if model.window is None:
        return jnp.arange(len(sequence.tokens))
    return jnp.argmax(sequence.maskable) + jnp.arange(model.window)


def eos_places(sequence: Sequence, positions: Int[Array, " window"], model: OrderModel) -> Mask:
    """Where the response has EOS, if a revealed one closes what follows it; else nowhere."""
    if model.eos_id is None:
        return jnp.zeros(positions.shape, bool)
    return sequence.tokens[positions] == model.eos_id


def always_revealed(sequence: Sequence, model: OrderModel) -> Mask:
    """Response positions that no EOS can close: every path reveals each of them exactly once."""
    positions = response(sequence, model)
    ends = eos_places(sequence, positions, model) & sequence.maskable[positions]
    return sequence.maskable[positions] & (jnp.cumsum(ends) - ends == 0)


def clean_nll(
    sequence: Sequence,
    positions: Int[Array, " window"],
    is_masked: Mask,
    denoise: Denoise,
    model: OrderModel,
) -> tuple[Float[Array, "window vocab"], Float[Array, " window"], Hidden]:
    """One denoiser call at a state of the response.

    Returns:
      Logits, -log p(token) of the masked positions (0 elsewhere; nats), and the denoiser's hidden
      states where the model's policy asks for them.
    """
    whole = jnp.zeros(sequence.tokens.shape, bool).at[positions].set(is_masked)
    canvas = apply_mask(sequence.tokens, whole, model.mask_id)
    valid, hidden = sequence.tokens != model.pad_id, None
    if model.hidden:
        logits, hidden = denoise.with_hidden(canvas, valid, positions)
    else:
        logits = denoise(canvas, valid, positions)
    logits = mask_logits(logits.astype(jnp.float32), (model.mask_id, model.pad_id))
    nll = token_nll(logits, jnp.where(is_masked, sequence.tokens[positions], 0))
    return logits, jnp.where(is_masked, nll, 0.0), hidden
