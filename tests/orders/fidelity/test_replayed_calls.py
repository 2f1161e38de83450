"""What is kept of a policy's calls, and what sequential decoding says of canvases on the way."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from listed_world import COPIES, FORCING, LENGTH, ORACLE, PROBS, TABLE, row_keys, whole

from mdm_jax.orders.fidelity.config import CriticParts, ReplayConfig
from mdm_jax.orders.fidelity.exploration import Row, explore
from mdm_jax.orders.fidelity.likelihood import Reference
from mdm_jax.orders.fidelity.replay import Replay, Steps, add, draw_transition, empty_replay
from mdm_jax.orders.fidelity.sequential import log_retraced
from mdm_jax.policies.adaptive import init_adaptive
from mdm_jax.policies.networks.adaptive_network import (
    AdaptiveConfig,
    AdaptiveNetwork,
    EntropyStart,
    blank_features,
)
from mdm_jax.policies.networks.critic_network import CriticNetwork

CONFIG = AdaptiveConfig(
    width=8, heads=2, max_length=LENGTH, depth=0, start=EntropyStart(offset=0.5, slope=1.0)
)


@pytest.fixture(scope="module")
def explored():
    """Rows with tokens of their own, half of them, and what sequential decoding says of them."""
    policy = init_adaptive(AdaptiveNetwork(CONFIG), jax.random.key(0), LENGTH)
    tokens = whole(COPIES)
    count = len(COPIES)
    own = jnp.arange(count) % 2 == 0
    rows = Row(row_keys(3, count), tokens.maskable, own, jnp.full(count, 0.1))
    seen = explore(tokens.tokens, rows, policy, ORACLE, FORCING, 64, 0.5)
    parts = CriticParts(ReplayConfig(), FORCING, CriticNetwork(CONFIG), Reference())
    found = log_retraced(row_keys(4, count), seen, rows, parts, ORACLE)
    return jax.device_get((seen, own, found))


def test_a_retrace_gives_the_probability_of_every_canvas_on_the_way(explored):
    seen, own, found = explored
    sums = np.cumsum(found.log_probs, axis=1)
    possible = 0
    for row in np.flatnonzero(own):
        shown = np.zeros(LENGTH, bool)
        for call in range(seen.state.calls[row]):
            shown |= seen.revealed[row, call]
            fits = (TABLE[:, shown] == seen.tokens[row, shown]).all(axis=1)
            if fits.any():
                np.testing.assert_allclose(sums[row, call], np.log(PROBS[fits].sum()), atol=1e-4)
                possible += call > 0
            else:
                assert sums[row, call] < -10
    assert possible
    assert not found.log_probs[~own].any() and not found.state.calls[~own].any()


def test_calls_reveal_every_position_once(explored):
    seen, *_ = explored
    assert (seen.revealed.sum(axis=1) == 1).all()
    features = seen.features
    assert not (seen.revealed & ~features.is_masked).any()
    np.testing.assert_array_equal(features.is_masked.any(axis=-1).sum(axis=1), seen.state.calls)


def test_what_a_drawn_eos_closes_is_eos():
    eos, count = 1, 64
    policy = init_adaptive(AdaptiveNetwork(CONFIG), jax.random.key(0), LENGTH)
    sequences, forcing = whole(np.zeros((count, LENGTH), int)), replace(FORCING, eos_id=eos)
    rows = Row(row_keys(3, count), sequences.maskable, jnp.ones(count, bool), jnp.full(count, 0.1))
    seen = explore(sequences.tokens, rows, policy, ORACLE, forcing, 64, 0.5)
    parts = CriticParts(ReplayConfig(), forcing, CriticNetwork(CONFIG), Reference())
    found = jax.device_get(log_retraced(row_keys(4, count), seen, rows, parts, ORACLE))
    tokens, revealed = np.asarray(seen.tokens), np.asarray(seen.revealed.any(axis=1))
    drawn_before = np.cumsum((tokens == eos) & revealed, axis=1) > 0
    assert (~revealed).any() and (tokens[~revealed] == eos).all() and drawn_before[~revealed].all()
    assert not found.state.is_masked.any()
    assert (found.state.calls <= revealed.sum(axis=1)).all()


def steps_of(revealed):
    """A row that reveals these sets; its entropies say which call it is."""
    revealed = jnp.asarray(revealed, bool)
    budget, window = revealed.shape
    is_masked = jnp.cumsum(revealed[::-1], axis=0)[::-1] > 0
    features = blank_features(window, (budget,))._replace(
        entropy=jnp.broadcast_to(jnp.arange(budget)[:, None] + 1.0, revealed.shape),
        is_masked=is_masked,
        eligible=is_masked,
        calls_left=budget - jnp.arange(float(budget)),
    )
    return Steps(features, revealed, 1.0 / (1.0 + jnp.arange(budget)))


ROW = steps_of([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]])


@pytest.mark.parametrize("skip", [0.0, 1.0])
def test_replayed_calls_lead_to_the_state_after_them(skip):
    draw = jax.jit(jax.vmap(lambda key: draw_transition(key, ROW, jnp.asarray(0.7), skip)))
    found = draw(row_keys(0, 64))
    assert (found.features.price == 0.7).all() and (found.next_features.price == 0.7).all()
    after = found.features.is_masked & ~found.revealed
    np.testing.assert_array_equal(found.next_features.is_masked, after)
    left = found.features.calls_left - found.next_features.calls_left
    assert (left == 1).all()  # merged calls are one call
    calls = np.asarray(found.features.entropy[:, 0]).astype(int) - 1
    assert set(calls) == {0, 1, 2}
    merged = np.asarray(found.revealed.sum(axis=1)) > np.array([1, 2, 1])[calls]
    np.testing.assert_array_equal(merged, (calls < 2) & (skip == 1.0))


def test_calls_of_different_blocks_are_not_merged():
    blocks = jnp.array([0, 0, 0, 1])
    current = jnp.array([0, 0, 1, 1])
    eligible = ROW.features.is_masked & (blocks[None] == current[:, None])
    row = ROW._replace(features=ROW.features._replace(eligible=eligible))
    found = jax.vmap(lambda key: draw_transition(key, row, jnp.asarray(0.7), 1.0))(row_keys(0, 64))
    assert not (np.asarray(found.revealed) & ~np.asarray(found.features.eligible)).any()


def test_the_oldest_rows_are_overwritten():
    rows = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), ROW)
    replay = empty_replay(rows, 4)
    for number in range(3):
        replay = add(replay, rows._replace(survival=jnp.full((2, 4), float(number))))
    assert isinstance(replay, Replay) and int(replay.added) == 6
    np.testing.assert_array_equal(replay.rows.survival[:, 0], [2, 2, 1, 1])


def test_a_replay_that_is_no_multiple_is_refused():
    rows = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), ROW)
    with pytest.raises(ValueError, match="no multiple of 2"):
        empty_replay(rows, 5)
