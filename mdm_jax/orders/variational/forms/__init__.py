"""Forms of the posterior over orders."""

from mdm_jax.orders.variational.forms.max_normalised import MaxNormalised
from mdm_jax.orders.variational.forms.plackett_luce import PlackettLuce
from mdm_jax.orders.variational.forms.sigmoid import SigmoidScores

AnyForm = MaxNormalised | SigmoidScores | PlackettLuce
