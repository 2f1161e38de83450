"""The forward process: frequencies by chi-square, and exact statements about times and masks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mdm_jax.diffusion.corruption import (
    antithetic_masks,
    antithetic_times,
    apply_mask,
    complement_masks,
    mask_at_rate,
    mask_exactly,
    row_keys,
    stratified_times,
    uniform_times,
)

MASKABLE = jnp.array([True, True, False, True, True, False])
DRAWS = 4000


def keys(seed, n=DRAWS):
    return jax.random.split(jax.random.key(seed), n)


def subset_counts(masks):
    """How often each subset of the four maskable positions was drawn, [16]."""
    places = np.flatnonzero(MASKABLE)
    return np.bincount(np.asarray(masks)[:, places] @ (2 ** np.arange(4)), minlength=16)


@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_mask_at_rate_draws_positions_independently(rate):
    masks = jax.vmap(lambda k: mask_at_rate(k, MASKABLE, jnp.float32(rate)))(keys(0))
    assert not np.any(masks & ~MASKABLE)
    sizes = np.array([bin(i).count("1") for i in range(16)])
    expected = DRAWS * rate**sizes * (1 - rate) ** (4 - sizes)
    assert stats.chisquare(subset_counts(masks), expected).pvalue > 1e-3


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_mask_at_rate_zero_and_one(rate):
    masks = jax.vmap(lambda k: mask_at_rate(k, MASKABLE, jnp.float32(rate)))(keys(1, 200))
    np.testing.assert_array_equal(masks, np.tile(MASKABLE & (rate == 1), (200, 1)))


@pytest.mark.parametrize("count", range(6))
def test_mask_exactly_is_uniform_over_subsets(count):
    masks = jax.vmap(lambda k: mask_exactly(k, MASKABLE, jnp.int32(count)))(keys(2))
    assert not np.any(masks & ~MASKABLE)
    assert np.all(masks.sum(axis=1) == min(count, 4))
    seen = subset_counts(masks)
    right_size = [sum(bits) == min(count, 4) for bits in itertools.product([0, 1], repeat=4)]
    assert seen[~np.array(right_size)].sum() == 0
    if 0 < count < 4:
        assert stats.chisquare(seen[right_size]).pvalue > 1e-3


def test_stratified_times_have_one_in_each_stratum():
    times = jax.vmap(lambda k: stratified_times(k, 8))(keys(3, 500))
    strata = np.ceil(np.asarray(times) * 8).astype(int)  # (0, 1/8] is the first
    np.testing.assert_array_equal(strata, np.tile(np.arange(1, 9), (500, 1)))
    inside = np.asarray(times) * 8 - np.arange(8)
    assert stats.kstest(inside.ravel(), "uniform").pvalue > 1e-3
    assert stats.kstest(np.asarray(times).ravel(), "uniform").pvalue > 1e-3


def test_antithetic_times_are_a_shifted_even_grid():
    times = np.asarray(jax.vmap(lambda k: antithetic_times(k, 8))(keys(4, 500)))
    assert times.min() > 0 and times.max() <= 1
    gaps = np.diff(np.sort(times, axis=1), axis=1)
    np.testing.assert_allclose(gaps, 1 / 8, atol=1e-6)
    for row in range(8):  # every row alone is uniform
        assert stats.kstest(times[:, row], "uniform").pvalue > 1e-3


@pytest.mark.parametrize("draw", [uniform_times, stratified_times, antithetic_times])
def test_times_never_reach_zero(draw):
    times = np.asarray(draw(jax.random.key(5), 50_000))
    assert times.min() > 0 and times.max() <= 1
    assert abs(times.mean() - 0.5) < 0.01


@pytest.mark.parametrize("draw", [stratified_times, antithetic_times])
def test_spread_times_lower_the_variance_of_a_batch_mean(draw):
    def batch_means(draw):
        return np.asarray(jax.vmap(lambda k: jnp.mean(draw(k, 8) ** 2))(keys(6, 2000)))

    spread, independent = batch_means(draw), batch_means(uniform_times)
    assert abs(spread.mean() - 1 / 3) < 4 * spread.std() / 2000**0.5
    assert spread.var() < 0.2 * independent.var()


def test_complement_masks_partition_the_maskable_positions():
    rates = 1.0 - jax.random.uniform(jax.random.key(70), (DRAWS,))
    pairs = np.asarray(jax.vmap(lambda k, r: complement_masks(k, MASKABLE, r))(keys(7), rates))
    np.testing.assert_array_equal(pairs.sum(axis=1), np.tile(MASKABLE, (DRAWS, 1)))
    sizes = pairs[:, 1].sum(axis=1)  # a uniform rate makes the number of masks uniform on 0..4
    assert stats.chisquare(np.bincount(sizes, minlength=5)).pvalue > 1e-3


def test_antithetic_masks_each_have_the_rate_and_never_agree_on_a_low_one():
    rate = jnp.float32(0.3)
    pairs = np.asarray(jax.vmap(lambda k: antithetic_masks(k, MASKABLE, rate))(keys(8)))
    assert not np.any(pairs & ~np.asarray(MASKABLE))
    sizes = np.array([bin(i).count("1") for i in range(16)])
    expected = DRAWS * 0.3**sizes * 0.7 ** (4 - sizes)
    for view in range(2):
        assert stats.chisquare(subset_counts(pairs[:, view]), expected).pvalue > 1e-3
    assert not np.any(pairs[:, 0] & pairs[:, 1])
    high = jax.vmap(lambda k: antithetic_masks(k, MASKABLE, jnp.float32(0.7)))(keys(9, 200))
    np.testing.assert_array_equal(high.any(axis=1), np.tile(MASKABLE, (200, 1)))


def test_apply_mask_writes_mask_and_nothing_else():
    canvas = apply_mask(jnp.array([3, 1, 2]), jnp.array([False, True, False]), 9)
    assert canvas.tolist() == [3, 9, 2]


def test_row_keys_depend_only_on_the_index():
    few = jax.random.key_data(row_keys(jax.random.key(10), jnp.array([5, 2])))
    many = jax.random.key_data(row_keys(jax.random.key(10), jnp.arange(8)))
    np.testing.assert_array_equal(few, many[jnp.array([5, 2])])
    assert len({tuple(row) for row in many.tolist()}) == 8
