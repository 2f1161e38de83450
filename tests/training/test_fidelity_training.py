"""Learning an order by its fidelity: calls are saved where nothing is lost, and the best is kept."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.orders.fidelity.config import CriticParts, ReplayConfig, VineConfig, VineParts
from mdm_jax.orders.fidelity.evaluation import fidelities, held_out, prices_between, score
from mdm_jax.orders.fidelity.exploration import FidelityBatch
from mdm_jax.orders.fidelity.teacher_forcing import Forcing, Sequence
from mdm_jax.policies.adaptive import init_adaptive
from mdm_jax.policies.networks.adaptive_network import (
    AdaptiveConfig,
    AdaptiveNetwork,
    EntropyStart,
)
from mdm_jax.policies.networks.critic_network import CriticNetwork
from mdm_jax.training.fidelity import (
    critic_optimizer,
    critic_update,
    init_critic_state,
    vine_update,
)
from mdm_jax.training.held_out import HeldOutMonitor
from mdm_jax.training.loop import Services, fit
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import init_state

# two pairs of copies: one call for one of each pair, one for the rest; a threshold needs four
COPIES = np.array([[a, b, a, b] for a, b in itertools.product(range(2), repeat=2)])
ORACLE, STEPS = oracle_of(COPIES, 2, 2), 240
TOKENS, MASKABLE = jnp.asarray(np.tile(COPIES, (4, 1))), jnp.ones((16, 4), bool)
NETWORK = AdaptiveConfig(width=16, depth=0, canvas=32, max_length=4, start=EntropyStart(floor=-1.0))
FORCING = Forcing(2, 3, 4)
FAST = OptimizerConfig(learning_rate=1e-2, weight_decay=0.0, warmup=5)
VINE = VineConfig(states=32, draws=4, prices=(0.1, 0.1), on_policy=0.25, chunk=32)
REPLAY = ReplayConfig(prices=(0.1, 0.1), on_policy=0.25, capacity=64, updates=4, replayed=64)


def batch_at(step):
    return FidelityBatch(TOKENS, MASKABLE, jnp.full(16, step / STEPS, jnp.float32))


def by_branches(policy):
    parts, optimizer = VineParts(VINE, FORCING), make_optimizer(FAST, STEPS)
    state = init_state({"policy": policy.params}, optimizer)
    return parts, state, vine_update(policy, ORACLE, parts, optimizer, ema_decay=0.9)


def by_replay(policy):
    parts = CriticParts(REPLAY, FORCING, CriticNetwork(NETWORK))
    optimizer = critic_optimizer(FAST, FAST, STEPS * REPLAY.updates)
    key = jax.random.key(7)
    state = init_critic_state(key, policy, batch_at(0), ORACLE, parts, optimizer)
    return parts, state, critic_update(policy, ORACLE, parts, optimizer, ema_decay=0.9)


@pytest.fixture(scope="module", params=[by_branches, by_replay])
def trained(request):
    policy = init_adaptive(AdaptiveNetwork(NETWORK), jax.random.key(0), 4)
    parts, state, update = request.param(policy)
    data = held_out(jax.random.key(1), Sequence(TOKENS, MASKABLE), ORACLE, parts)
    measure = jax.jit(partial(fidelities, data=data, denoise=ORACLE, parts=parts))
    prices = prices_between(*parts.config.prices, 2)
    rows, kept = [], [jax.device_get(state.ema)]
    monitor = HeldOutMonitor(
        policy,
        prices,
        measure,
        partial(score, prices=prices, parts=parts),
        lambda: rows,
        lambda state: kept.append(jax.device_get(state.ema)),
    )
    services = Services(evaluate=monitor, eval_every=40, log=lambda step, row: rows.append(row))
    state = fit(state, update, batch_at, jax.random.key(2), steps=STEPS, services=services)
    return monitor, kept, state


def test_two_uncertain_positions_that_are_independent_go_together(trained):
    monitor, kept, _ = trained
    before, after = (monitor.measured(kept[place]["policy"]) for place in (0, -1))
    np.testing.assert_allclose(before.calls, 4.0)
    np.testing.assert_allclose(after.calls, 2.0)
    np.testing.assert_allclose(after.overlap, 1.0, rtol=1e-4)


def test_worse_parameters_are_not_kept(trained):
    monitor, kept, state = trained
    count = len(kept)
    row = monitor(state._replace(ema=jax.tree.map(lambda leaf: leaf + 3.0, state.ema)), {})
    assert row["heldout_overlap"] < 0.9 and len(kept) == count
