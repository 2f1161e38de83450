"""Expected steps of reveal, on orders that are known."""

import jax
import jax.numpy as jnp
import numpy as np

from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.evals.priorities import posterior_steps
from mdm_jax.orders.variational.elbo import OrderModel
from mdm_jax.orders.variational.evaluation import FittedOrder
from mdm_jax.orders.variational.forms.max_normalised import MaxNormalised
from mdm_jax.orders.variational.loss import OrderParts, init_order
from mdm_jax.orders.variational.posterior import Scorer, ScorerConfig, start_scores
from mdm_jax.policies.networks.policy_network import PolicyConfig, PolicyNetwork
from mdm_jax.tasks.base import Batch, Vocabulary

WORDS = Vocabulary(size=3, eos_id=2)  # canvases of two prompt tokens, then five that are generated

ANY_DENOISER = oracle_of(np.zeros((1, 7), int), WORDS.size, WORDS.mask_id)  # it is not asked


def known(order, spacing):
    """Networks whose scores are a static order, and nothing else."""
    model = OrderModel(
        MaxNormalised(), 4, WORDS.mask_id, WORDS.pad_id, window=5, eos_id=WORDS.eos_id
    )
    scorer = ScorerConfig(width=4, depth=1, heads=1, spread=0.0, limit=1e6)
    parts = OrderParts(
        model, Scorer(scorer, WORDS.size, 7), PolicyNetwork(PolicyConfig(width=4, heads=1), 5, 4)
    )
    params = init_order(parts, jax.random.key(0), 7, WORDS.size)
    return parts, params | {
        "posterior": start_scores(params["posterior"], jnp.asarray(order), spacing)
    }


def test_the_posterior_reveals_when_it_should():
    parts, params = known([2, 0, 0, 3, 1], 50.0)
    tokens = np.array([[0, 1, 1, 0, 1, 0, 1], [0, 1, 1, 0, 2, 2, 2], [0, 1, 1, 0, 1, 0, 1]])
    maskable = np.tile(np.arange(7) >= 2, (3, 1))
    maskable[2, 4] = False  # the first in line is shown together with the prompt
    steps, given = posterior_steps(
        jax.random.key(1), FittedOrder(parts, params, 0.5), Batch(tokens, maskable), ANY_DENOISER
    )
    assert (given == ~maskable[:, 2:]).all()
    assert steps[0].tolist() == [2, 0, 0, 3, 1]
    assert steps[1].tolist() == [1, 0, 0, 0, 0]  # EOS comes first and closes what follows
    assert steps[2].tolist() == [2, 0, 0, 3, 1]


def test_the_posterior_is_averaged_over_paths():
    """The second in line comes along with probability 1/2, else it is the first of the next step."""
    parts, params = known([0, 1, 200, 300, 400], np.log(2) / 2)
    tokens = np.tile([0, 1, 1, 0, 1, 0, 1], (3, 1))
    batch = Batch(tokens, np.tile(np.arange(7) >= 2, (3, 1)))
    steps, _ = posterior_steps(
        jax.random.key(2), FittedOrder(parts, params, 0.5), batch, ANY_DENOISER
    )
    late = steps[:, 1]
    assert (steps[:, 0] == 0).all() and ((late > 0.25) & (late < 0.75)).all()
    assert (steps[:, 2] == 1 + late).all()
    # the budget of 4 leaves the last two one step where the second came late
    assert (steps[:, 3] == 2 + late).all() and (steps[:, 4] == 3).all()
    assert len(set(late)) > 1  # each sequence has paths of its own
