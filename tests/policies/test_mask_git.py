"""MaskGIT's noise: how it fades, what it draws, and what compounding it by mistake does to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_world import LENGTH, ROWS, VOCAB, assert_reveals_and_goes_on, observe, reveal
from scipy import stats

from mdm_jax.errors import MdmError
from mdm_jax.policies.count_schedules import LinearCounts
from mdm_jax.policies.heuristics import TopConfidence
from mdm_jax.policies.mask_git import Compounded, Constant, Fading, MaskGit

TWELVE = jnp.arange(12)


def test_noise_fades_evenly_and_compounded_it_is_the_product():
    """After five of twelve steps 0.58 is left, and 0.22 where every step multiplies what it finds."""
    right, wrong = (
        jax.vmap(each.share, (0, None))(TWELVE, jnp.int32(12)) for each in (Fading(), Compounded())
    )
    np.testing.assert_allclose(right, 1 - np.arange(1, 13) / 12, atol=1e-6)
    np.testing.assert_allclose(wrong, np.cumprod(right), atol=1e-5)
    np.testing.assert_allclose([right[4], wrong[4]], [0.583, 0.223], atol=1e-3)
    assert Constant().share(jnp.int32(5), jnp.int32(12)) == 1.0 and wrong[-1] == right[-1] == 0.0


def test_without_noise_it_is_top_confidence():
    """At the temperature 0, and at the last step, where nothing of the noise is left."""
    expected = reveal(TopConfidence(3), observe(2))
    np.testing.assert_array_equal(reveal(MaskGit(3, LinearCounts(), 0.0), observe(2)), expected)
    assert_reveals_and_goes_on(MaskGit(), 7)


@pytest.mark.parametrize("annealing, left", [(Fading(), 3 / 8), (Compounded(), 2520 / 8**5)])
def test_positions_are_drawn_by_powers_of_the_confidence(annealing, left):
    """Step 4 of 8, one of four positions: proportional to c^(1 / (temperature * share))."""
    places, temperature = [2, 5, 9, 14], 5.0
    rng, eligible = np.random.default_rng(1), np.zeros((ROWS, LENGTH), bool)
    row = rng.normal(size=(LENGTH, VOCAB)) * np.linspace(0.5, 5, LENGTH)[:, None]
    eligible[:, places] = True
    observations = observe(1, np.broadcast_to(row, (ROWS, LENGTH, VOCAB)), eligible, block_step=4)
    odds = np.exp(row[places])
    odds = (odds.max(axis=1) / odds.sum(axis=1)) ** (1 / (temperature * left))
    policy = MaskGit(8, LinearCounts(), temperature, annealing)
    seen = sum(reveal(policy, observations, seed) for seed in range(4))[:, places].sum(axis=0)
    assert seen.sum() == 4 * ROWS
    assert stats.chisquare(seen, 4 * ROWS * odds / odds.sum()).pvalue > 1e-3


def test_a_negative_temperature_is_refused():
    with pytest.raises(MdmError, match="policy_temperature"):
        MaskGit(policy_temperature=-1.0)
