"""Hidden states of the denoiser: given to the policies that ask, and to no other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampling_world import CANVASES, MASK, PAD, PROMPTED, Config, Hesitant, row_keys, run, toy

from mdm_jax.denoisers.base import bind
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.policies.base import RevealAll, RevealOnly
from mdm_jax.policies.heuristics import TopConfidence
from mdm_jax.policies.switch import as_switch
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.sampling.rows import Sampler, prepare
from mdm_jax.sampling.step import denoise_step

MODULE = Transformer(TransformerConfig(width=16, depth=1, heads=2, max_length=16), MASK)
WINDOW = Config(gen_length=8)
STARTS = [2, 4, 3, 1, 4, 0]  # of the windows of PROMPTED


@pytest.fixture(scope="module")
def denoise():
    canvas = jnp.asarray(CANVASES[0])
    init = jax.jit(lambda key: MODULE.init(key, canvas, canvas != PAD)["params"])
    return bind(MODULE, init(jax.random.key(3)))


@pytree_dataclass
class Brightest(RevealOnly):
    """Reveals the position whose hidden state has the largest feature number `feature`."""

    feature: int = 0
    wants_hidden = True

    def unmask(self, key, observation):
        shine = jnp.where(observation.eligible, observation.hidden[:, self.feature], -jnp.inf)
        return observation.eligible & (jnp.arange(len(shine)) == jnp.argmax(shine))


@jax.jit
def hidden_of(denoise, canvas):
    return denoise.with_hidden(canvas, canvas != PAD)[1]


def brightest_order(denoise, canvas, finished, feature):
    """Step of each position's reveal by `Brightest`, -1 where nothing was masked."""
    canvas, revealed_at = np.array(canvas), np.full(len(canvas), -1)
    for step in range((canvas == MASK).sum()):
        shine = np.array(hidden_of(denoise, jnp.asarray(canvas)))[:, feature]
        place = np.where(canvas == MASK, shine, -np.inf).argmax()
        canvas[place], revealed_at[place] = finished[place], step
    return revealed_at


@pytest.mark.parametrize("feature", [0, 7])
def test_a_policy_that_asks_decides_by_hidden_states(denoise, feature):
    whole = run(Brightest(feature), Config(budget=12), denoise=denoise)
    for row, canvas in enumerate(CANVASES):
        expected = brightest_order(denoise, canvas, whole.canvas[row], feature)
        assert whole.revealed_at[row].tolist() == expected.tolist()
    window = run(Brightest(feature), WINDOW, PROMPTED, denoise=denoise)
    for row, start in enumerate(STARTS):
        expected = brightest_order(denoise, PROMPTED[row], window.canvas[row], feature)
        assert window.revealed_at[row].tolist() == expected[start : start + 8].tolist()
    assert sorted(window.revealed_at[1]) == list(range(8))
    assert window.revealed_at[1].tolist() != list(range(8))


class Spy(RevealOnly):
    """Reveals all, and keeps the hidden states that it saw."""

    def __init__(self, wants_hidden):
        self.wants_hidden = wants_hidden

    def unmask(self, key, observation):
        self.seen = observation.hidden
        return observation.eligible


def seen_in_one_step(denoise, canvas, config, wants_hidden):
    """The hidden states of the first step, for a canvas."""
    spy = Spy(wants_hidden)
    sampler = Sampler(denoise, spy, config)
    row, context = prepare(sampler, row_keys(0)[0], canvas)
    denoise_step(sampler, row, context, jnp.zeros((), jnp.int32))
    return spy.seen


@pytest.mark.parametrize("row", range(6))
def test_hidden_states_are_those_of_the_window(denoise, row):
    canvas = jnp.asarray(PROMPTED[row])
    full = hidden_of(denoise, canvas)
    got = seen_in_one_step(denoise, canvas, Config(), True)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, full, atol=1e-5)
    start = STARTS[row]
    window = seen_in_one_step(denoise, canvas, WINDOW, True)
    np.testing.assert_allclose(window, full[start : start + 8], atol=1e-5)
    assert np.ptp(full, axis=0).min() > 1e-2


@pytree_dataclass
class Closed:
    """The toy denoiser, which must not be asked for hidden states."""

    def __call__(self, canvas, valid, positions=None):
        return toy()(canvas, valid, positions)

    def with_hidden(self, canvas, valid, positions=None):
        raise AssertionError("asked for hidden states")


def test_a_policy_that_does_not_ask_sees_none_and_costs_nothing():
    for config in (Config(), WINDOW):
        canvas = jnp.asarray(PROMPTED[0])
        assert seen_in_one_step(Closed(), canvas, config, wants_hidden=False) is None
        with pytest.raises(AssertionError, match="asked for hidden states"):
            seen_in_one_step(Closed(), canvas, config, wants_hidden=True)


@pytree_dataclass
class Asking(RevealOnly):
    """Asks for the hidden states and decides without them."""

    inner: RevealOnly
    wants_hidden = True

    def unmask(self, key, observation):
        return self.inner.unmask(key, observation)


def test_asking_changes_nothing_else(denoise):
    policy = TopConfidence(5)
    for canvases, config in ((CANVASES, Config(temperature=1.0)), (PROMPTED, WINDOW)):
        asking = run(Asking(policy), config, canvases, denoise=denoise)
        plain = run(policy, config, canvases, denoise=denoise)
        jax.tree.map(np.testing.assert_array_equal, asking, plain)


def test_a_choice_is_shown_the_window_where_a_member_is():
    assert as_switch((TopConfidence(4), RevealAll()))[0].wants_window is False
    assert all(choice.wants_window is True for choice in as_switch((TopConfidence(4), Hesitant())))


def test_a_choice_asks_where_a_member_does(denoise):
    members = (Brightest(7), TopConfidence(4))
    choices = as_switch(members)
    assert all(choice.wants_hidden is True for choice in choices)
    assert as_switch((TopConfidence(4), RevealAll()))[0].wants_hidden is False
    for choice, member in zip(choices, members, strict=True):
        got, alone = (run(p, WINDOW, PROMPTED, denoise=denoise) for p in (choice, member))
        np.testing.assert_array_equal(got.canvas, alone.canvas)
        np.testing.assert_array_equal(got.revealed_at, alone.revealed_at)


def test_a_denoiser_without_hidden_states_is_named():
    message = "Brightest wants hidden states, but the denoiser Partial gives none"
    with pytest.raises(ValueError, match=message):
        run(Brightest(), denoise=toy())
    with pytest.raises(ValueError, match="SwitchPolicy wants hidden states"):
        run(as_switch((TopConfidence(4), Brightest()))[0], denoise=toy())
