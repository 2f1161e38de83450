"""Which of several static orders a prompt gets, from what the denoiser says of it.

No static order serves all prompts: what a prompt shows decides which positions can be revealed together.
The orders o_1, ..., o_V are followed once along clean sequences x, so their likelihoods beside sequential
decoding are known, w_v(x) = p_v(x | prompt) / p_sequential(x | prompt). The choice pi maximises

  E_x[sum_v pi(v | prompt) min(cap, w_v(x))],

the success rate of the order that is drawn. All orders are summed over, so the gradient has no noise but
that of the sequences, and each needs to be seen with one clean sequence alone.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax.chunks import map_rows
from mdm_jax.denoisers.base import Denoise
from mdm_jax.errors import check_range
from mdm_jax.orders.fidelity.likelihood import Reference, sequential_likelihood
from mdm_jax.orders.fidelity.teacher_forcing import Forcing
from mdm_jax.orders.static import DenoiserCosts, order_nlls
from mdm_jax.orders.variational.model import (
    OrderModel,
    Sequence,
    calls_at_once,
    clean_nll,
    response,
)
from mdm_jax.policies.base import confidence, entropy, margin
from mdm_jax.policies.heuristics import EntropyBound
from mdm_jax.types import RowKey, Scalar

# sequential decoding that reveals positions together where that loses 0.02 nats at most
NEARLY_SEQUENTIAL = Reference(EntropyBound(0.02))
PROMPT_FEATURES = 5
CERTAIN = 0.02  # nats: below it a position counts as determined

PromptFeatures = Float[Array, "window features"]
Choice = Float[Array, " orders"]  # logits


@dataclass(frozen=True, kw_only=True)
class ChoiceConfig:
    """The network that chooses an order, and how it learns to.

    Attributes:
      width: of its two dense layers.
      sequences: clean ones that all orders are followed along, once.
      updates: gradient steps on them.
      batch_size: sequences in each.
      learning_rate: at the start; falls to 0 along a cosine.
      weight_decay: of AdamW.
      entropy: weight of the choice's entropy (nats) at the start; falls to 0.
      diversity_cost: weight of the entropy (nats) of how often each order is chosen, at the end; rises
        from 0. Many orders are equally good for a prompt; a policy follows few more easily than many.
      cap: most that one sequence is worth. 1 counts what an order shares with sequential decoding; a
        higher cap also counts sequences that the order draws too often.
    """

    width: int = 256
    sequences: int = 8192
    updates: int = 1600
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    entropy: float = 0.02
    diversity_cost: float = 0.005
    cap: float = 3.0

    def __post_init__(self) -> None:
        for name in ("width", "updates", "batch_size"):
            check_range(name, getattr(self, name), 1)
        check_range("sequences", self.sequences, 2)  # some are held out
        for name in ("weight_decay", "entropy", "diversity_cost"):
            check_range(name, getattr(self, name), 0)
        for name in ("learning_rate", "cap"):
            check_range(name, getattr(self, name), above=0)


@dataclass(frozen=True, kw_only=True)
class ImitationConfig:
    """How a network learns the orders that prompts get, before the first update.

    Attributes:
      updates: gradient steps on what the orders do along the clean sequences of the choice.
      batch_size: steps of an order in each for the policy, sequences for the posterior.
      learning_rate: at the start; falls to 0 along a cosine.
    """

    updates: int = 4000
    batch_size: int = 256
    learning_rate: float = 4e-3

    def __post_init__(self) -> None:
        check_range("updates", self.updates, 0)
        check_range("batch_size", self.batch_size, 1)
        check_range("learning_rate", self.learning_rate, above=0)


class OrderChoice(nn.Module):
    """Logits of the orders: dense layers over the whole prompt."""

    width: int
    orders: int

    @nn.compact
    def __call__(self, features: PromptFeatures) -> Choice:
        x = nn.silu(nn.Dense(self.width, name="hidden_1")(features.ravel()))
        x = nn.silu(nn.Dense(self.width, name="hidden_2")(x))
        return nn.Dense(self.orders, kernel_init=nn.initializers.zeros, name="logits")(x)


class Followed(NamedTuple):
    """Clean sequences that every order has been followed along, leading axis [n]."""

    features: PromptFeatures
    worth: Float[Array, "n orders"]  # min(cap, w)


@partial(jax.jit, static_argnames="model")
def follow(
    key: RowKey,
    orders: Int[Array, "orders window"],
    sequences: Sequence,
    denoise: Denoise,
    model: OrderModel,
    cap: Scalar | float,
) -> Followed:
    """What each order is worth on each clean sequence.

    Costs orders * budget denoiser calls for a sequence, those of sequential decoding, and one.

    Args:
      sequences: leading axis [n].
    """
    length = sequences.tokens.shape[1]
    budget = model.window or length
    forcing = Forcing(model.mask_id, model.pad_id, budget, model.window, eos_id=model.eos_id)
    sequential = sequential_likelihood(key, sequences, NEARLY_SEQUENTIAL, denoise, forcing)
    nll = order_nlls(orders, sequences, DenoiserCosts(denoise, model))
    worth = jnp.minimum(jnp.exp(-nll - sequential.log_prob), cap)
    features = partial(prompt_features, denoise=denoise, model=model)
    return Followed(map_rows(features, sequences, calls_at_once(length, model)), worth.T)


def prompt_features(sequence: Sequence, denoise: Denoise, model: OrderModel) -> PromptFeatures:
    """What the denoiser says of a prompt with nothing of the response shown: one call."""
    positions = response(sequence, model)
    is_masked = sequence.maskable[positions]
    logits, _, _ = clean_nll(sequence, positions, is_masked, denoise, model)
    logits = jax.lax.stop_gradient(logits)
    scores = [jnp.where(is_masked, read(logits), 0.0) for read in (confidence, margin, entropy)]
    columns = *scores, is_masked, is_masked & (scores[-1] < CERTAIN)
    return jnp.stack([jnp.asarray(x, jnp.float32) for x in columns], axis=-1)


def choice_loss(
    logits: Float[Array, "batch orders"],
    worth: Float[Array, "batch orders"],
    entropy: Scalar | float,
    diversity_cost: Scalar | float,
) -> Scalar:
    """Minus the worth that is expected of the choice, minus its weighted entropy, plus that of its mean.

    Args:
      worth: min(cap, w) of every order on each sequence.
      entropy, diversity_cost: weights, per nat.
    """
    logs = jax.nn.log_softmax(logits)
    probs = jnp.exp(logs)
    shares = jnp.mean(probs, axis=0)
    diversity = -jnp.sum(shares * jnp.log(jnp.maximum(shares, 1e-9)))
    return jnp.mean(jnp.sum(probs * (entropy * logs - worth), axis=-1)) + diversity_cost * diversity
