"""Learning which positions depend on each other: labels of pairs, and the loss of a head on them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mdm_jax.denoisers.base import DenoiseDependence, DenoiseHidden
from mdm_jax.diffusion.corruption import apply_mask
from mdm_jax.policies.base import top
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.sampling.canvas import window_start
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.outputs import apply_logit_mask
from mdm_jax.sampling.rows import Positions
from mdm_jax.types import Count, Mask, RowKey, Tokens


class Canvas(NamedTuple):
    """One denoiser call on a partly masked sequence, at the positions of its window."""

    canvas: Tokens
    places: Positions
    is_masked: Bool[Array, " window"]
    logits: Float[Array, "window vocab"]
    hidden: Float[Array, "window features"]


class PairLabels(NamedTuple):
    """How much the first position of a pair depends on the second: total variation, 0..1."""

    dependence: Float[Array, "window window"]
    known: Bool[Array, "window window"]


@pytree_dataclass
class ExactLabels:
    """Mean total variation between p(x_i) and p(x_i | x_j) under an oracle, for all masked pairs."""

    oracle: DenoiseDependence

    def __call__(
        self, key: RowKey, at: Canvas, denoise: DenoiseHidden, config: SamplerConfig
    ) -> PairLabels:
        valid = at.canvas != config.pad_id
        _, dependence = self.oracle.with_dependence(at.canvas, valid, at.places)
        return PairLabels(dependence, at.is_masked[:, None] & at.is_masked)


@pytree_dataclass
class CalledLabels:
    """The total variation between p(x_i) and p(x_i | y_j), y_j drawn from p(x_j), for `count` random
    positions j of a canvas: a denoiser call for each.

    Its mean over y_j is what an oracle gives, and the mean is what a head learns.

    Reference: the labels of DEMASK, arXiv:2604.02560.
    """

    count: int = static(4)

    def __call__(
        self, key: RowKey, at: Canvas, denoise: DenoiseHidden, config: SamplerConfig
    ) -> PairLabels:
        k_chosen, k_ties, k_draw = jax.random.split(key, 3)
        noise = jax.random.uniform(k_chosen, at.is_masked.shape, jnp.float32)
        chosen = top(k_ties, noise, at.is_masked, self.count)
        drawn = jax.random.categorical(k_draw, at.logits, axis=-1, mode="high")
        columns = jnp.nonzero(chosen, size=min(self.count, len(chosen)), fill_value=0)[0]
        before, valid = jax.nn.softmax(at.logits, axis=-1), at.canvas != config.pad_id

        def column(position: Count) -> Float[Array, " window"]:
            shown = at.canvas.at[at.places[position]].set(drawn[position])
            logits = apply_logit_mask(denoise(shown, valid, at.places), config)
            return jnp.sum(jnp.abs(jax.nn.softmax(logits, axis=-1) - before), axis=-1) / 2

        found = jnp.zeros((len(chosen),) * 2).at[:, columns].set(jax.lax.map(column, columns).T)
        return PairLabels(found, at.is_masked[:, None] & chosen)


Labels = ExactLabels | CalledLabels


def labelled(
    key: RowKey,
    tokens: Tokens,
    maskable: Mask,
    denoise: DenoiseHidden,
    labels: Labels,
    config: SamplerConfig,
) -> tuple[Float[Array, "window features"], PairLabels]:
    """Hidden states and labels at a uniform number of masks, two or more where there are, at random.

    One denoiser call, and those of the labels.
    """
    k_count, k_masked, k_ties, k_labels = jax.random.split(key, 4)
    total = jnp.sum(maskable)
    count = jax.random.randint(k_count, (), jnp.minimum(2, total), total + 1)
    noise = jax.random.uniform(k_masked, tokens.shape, jnp.float32)
    is_masked = top(k_ties, noise, maskable, count)
    canvas = apply_mask(tokens, is_masked, config.mask_id)
    window = config.gen_length or len(tokens)
    start = window_start(apply_mask(tokens, maskable, config.mask_id), config.mask_id, window)
    places = start + jnp.arange(window, dtype=jnp.int32)
    logits, hidden = denoise.with_hidden(canvas, canvas != config.pad_id, places)
    at = Canvas(canvas, places, is_masked[places], apply_logit_mask(logits, config), hidden)
    found = labels(k_labels, at, denoise, config)
    apart = ~jnp.eye(window, dtype=bool)
    return jax.lax.stop_gradient((hidden, found._replace(known=found.known & apart)))


def pair_loss(
    predicted: Float[Array, "*rows window window"], labels: PairLabels
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Mean cross-entropy of the known labels, whose minimum is their conditional mean.

    Args:
      predicted: logits of dependences.

    Returns:
      The loss, and metrics: `error`, root mean square of predicted minus labelled dependence, beside
      `spread`, what it is where always their mean is predicted.
    """
    known = labels.known.astype(jnp.float32)

    def mean(values: Float[Array, "*rows window window"]) -> Float[Array, ""]:
        return jnp.sum(known * values) / jnp.maximum(jnp.sum(known), 1.0)

    loss = mean(jax.nn.softplus(predicted) - predicted * labels.dependence)
    error = mean((jax.nn.sigmoid(predicted) - labels.dependence) ** 2)
    spread = mean((labels.dependence - mean(labels.dependence)) ** 2)
    metrics = {"loss": loss, "error": jnp.sqrt(error), "spread": jnp.sqrt(spread)}
    return loss, metrics | {"dependence": mean(labels.dependence)}
