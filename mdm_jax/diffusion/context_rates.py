"""Masking rates that depend on the context: LoMDM.

A token is masked with probability t^w_i(x), where the exponent of position i depends on the whole clean
sequence x. What generates sees no x: it reveals position i at the rate v_i(z) / t, read off the canvas z.
The bound is that of `diffusion.genmd4`, the divergence of two Poisson processes,

  L(x) = E_t E_z sum_i masked (1/t) [w_i(x) (log w_i(x) - log v_i(z) - log mu_i(x_i)) - w_i(x) + v_i(z)],

and least where v_i(z) = E[w_i | z] and v_i(z) mu_i(u) = E[w_i 1(x_i = u) | z]. So mu is not what the
token is, but what it is if it is revealed now; the network learns that from the same loss. With these,
generation draws from p(x) whatever w is. The bound itself is then above -log p(x), unless w_i depends on
i and x_i alone: when the others were revealed says something of w_i(x), and no canvas shows it.

Reference: LoMDM, arXiv:2602.02112; as it is known to us from descriptions. Its exponents are a constant
and a normalised sigmoid of the hidden states; a softplus of a linear map is ours.
"""

from collections.abc import Callable
from functools import partial

import jax
from jaxtyping import Array, Float

from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.elbo import canvas_call
from mdm_jax.diffusion.rates import Rates, Shown
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Mask, Tokens

OF_SEQUENCE, OF_CANVAS = 0, 1  # which of the heads


@pytree_dataclass
class ContextRates:
    """Two linear maps of the denoiser's hidden states, of which the last column is added:
    exponents = softplus(before + map). The hidden states get no gradient through them.
    """

    heads: Float[Array, "2 features_and_one"]
    before: float

    def read(self, head: int, hidden: Float[Array, "length features"]) -> Rates:
        """The exponents of each position, of a clean sequence or for generation from a canvas."""
        weights = self.heads[head]
        linear = jax.lax.stop_gradient(hidden) @ weights[:-1] + weights[-1]
        return Rates(jax.nn.softplus(self.before + linear)[:, None])


def rated_process(
    denoise: Denoise,
    rates: Rates | ContextRates,
    tokens: Tokens,
    maskable: Mask,
    *,
    mask_id: int,
    pad_id: int,
    window: int | None = None,
) -> tuple[Rates, Callable[[Mask], Shown]]:
    """The exponents by which a sequence is masked, and what is known when it is.

    Those of a context cost one denoiser call more: that of the clean sequence. Arguments as
    `elbo.canvas_call`.
    """
    ids = {"mask_id": mask_id, "pad_id": pad_id, "window": window}
    call = partial(canvas_call, tokens=tokens, maskable=maskable, **ids)
    if isinstance(rates, Rates):

        def shown(is_masked: Mask) -> Shown:
            positions, logits = call(denoise, is_masked=is_masked)
            return Shown(positions, logits, rates.at(positions))

        return rates, shown

    def shown_in_context(is_masked: Mask) -> Shown:
        positions, (logits, hidden) = call(denoise.with_hidden, is_masked=is_masked)
        return Shown(positions, logits, rates.read(OF_CANVAS, hidden))

    _, hidden = denoise.with_hidden(tokens, tokens != pad_id)
    return rates.read(OF_SEQUENCE, hidden), shown_in_context
