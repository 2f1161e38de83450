"""Exact conditionals under masking rates that depend on the token: they change with time."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax.denoisers.oracle import Oracle
from mdm_jax.diffusion.rates import Rates
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Mask, Scalar, Tokens


@pytree_dataclass
class RatedOracle:
    """p(token | canvas, time) of a listed distribution whose tokens are masked at `rates`.

    That a position is masked at time t says something of its token: the posterior of a sequence is
    proportional to p(x) prod_{i masked} t^w_{x_i}. The factor of a position's own token is left out of
    its logits, as `diffusion.rates` wants it; a canvas alone is at time 1. Meets `DenoiseTimed`.
    """

    oracle: Oracle
    rates: Rates
    t: Scalar | float = 1.0

    def at(self, t: Scalar) -> "RatedOracle":
        """The denoiser of canvases at time t."""
        return RatedOracle(self.oracle, self.rates, t)

    def __call__(
        self, canvas: Tokens, valid: Mask, positions: Int[Array, " wanted"] | None = None
    ) -> Float[Array, "wanted vocab"]:
        oracle, log_t = self.oracle, jnp.log(jnp.asarray(self.t, jnp.float32))
        is_masked = (canvas == oracle.mask_id) & valid
        own = log_t * jnp.where(is_masked, jax.vmap(self.rates.of)(oracle.table), 0.0)
        agrees = jnp.all(is_masked | ~valid | (oracle.table == canvas), axis=1)
        weights = jnp.where(agrees, jnp.log(oracle.probs) + jnp.sum(own, axis=1), -jnp.inf)
        others = weights[:, None] - own  # without the position's own factor
        has_token = oracle.table[:, :, None] == jnp.arange(oracle.vocab)
        logits = jax.nn.logsumexp(jnp.where(has_token, others[:, :, None], -jnp.inf), axis=0)
        logits = jnp.where(jnp.any(agrees), logits, 0.0)
        return logits if positions is None else logits[positions]
