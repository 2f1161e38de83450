"""Learning an order by its fidelity: calls are saved where nothing is lost, and the best is kept."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.orders.fidelity.config import VineConfig, VineParts
from mdm_jax.orders.fidelity.evaluation import held_out
from mdm_jax.orders.fidelity.teacher_forcing import Forcing, Sequence
from mdm_jax.orders.fidelity.vine import VineBatch
from mdm_jax.policies.adaptive import init_adaptive
from mdm_jax.policies.networks.adaptive_network import (
    AdaptiveConfig,
    AdaptiveNetwork,
    EntropyStart,
)
from mdm_jax.training.fidelity import BestParameters, fidelity_update
from mdm_jax.training.loop import Services, fit
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import init_state

# two pairs of copies: one call for one of each pair, one for the rest; a threshold needs four
COPIES = np.array([[a, b, a, b] for a, b in itertools.product(range(2), repeat=2)])
ORACLE, STEPS = oracle_of(COPIES, 2, 2), 60


@pytest.fixture(scope="module")
def trained():
    network = AdaptiveNetwork(
        AdaptiveConfig(width=16, heads=2, max_length=4, start=EntropyStart(floor=-1.0))
    )
    policy = init_adaptive(network, jax.random.key(0), 4)
    config = VineConfig(states=32, draws=4, prices=(0.1, 0.1), on_policy=0.25, chunk=32)
    parts = VineParts(config, Forcing(2, 3, 4))
    tokens, maskable = jnp.asarray(np.tile(COPIES, (4, 1))), jnp.ones((16, 4), bool)
    data = held_out(jax.random.key(1), Sequence(tokens, maskable), ORACLE, parts)
    best = BestParameters(policy, data, ORACLE, parts, prices=2)
    optimizer = make_optimizer(OptimizerConfig(learning_rate=1e-2, weight_decay=0.0), STEPS)
    update = fidelity_update(policy, ORACLE, parts, optimizer, ema_decay=0.9)
    batch = VineBatch(tokens, maskable, jnp.zeros(16))

    def batch_at(step):
        return batch._replace(progress=jnp.full(16, step / STEPS))

    before = best.measure(policy.params)
    state = fit(
        init_state(policy.params, optimizer),
        update,
        batch_at,
        jax.random.key(2),
        steps=STEPS,
        services=Services(evaluate=best, eval_every=20),
    )
    return best, before, state


def test_two_uncertain_positions_that_are_independent_go_together(trained):
    best, before, _ = trained
    after = best.measure(best.policy.params)
    np.testing.assert_allclose(before.calls, 4.0)
    np.testing.assert_allclose(after.calls, 2.0)
    np.testing.assert_allclose(after.overlap, 1.0, rtol=1e-4)


def test_worse_parameters_are_not_kept(trained):
    best, _, state = trained
    kept = best.policy.params
    row = best(state._replace(ema=jax.tree.map(lambda leaf: leaf + 3.0, state.ema)), {})
    assert row["heldout_overlap"] < 0.9
    jax.tree.map(np.testing.assert_array_equal, best.policy.params, kept)
