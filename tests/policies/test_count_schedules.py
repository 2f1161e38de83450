"""Count rules against what the code of LLaDA, Dream, SMDM and MaskGIT reveals at each step."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recorded import records

from mdm_jax.diffusion.schedules import Cosine, Linear, Polynomial
from mdm_jax.policies.count_schedules import (
    AlphaCounts,
    AncestralCounts,
    CountRule,
    GivenCounts,
    LinearCounts,
)

LONGEST = 600
RULES = [
    LinearCounts(),
    AlphaCounts(),
    AlphaCounts(Linear()),
    AlphaCounts(Polynomial(2.0)),
    AlphaCounts(Polynomial(0.5)),
]


@dataclass(frozen=True)
class MaskGitSquare:
    """MaskGIT keeps 1 - progress^2 masked; `Polynomial(2)` keeps (1 - progress)^2, its mirror."""

    def alpha(self, t):
        return (1.0 - t) ** 2

    def time(self, alpha):
        return 1.0 - alpha**0.5


@functools.partial(jax.jit, static_argnums=0)
@functools.partial(jax.vmap, in_axes=(None, 0, 0))
def reveals(rule, total, steps):
    """Positions revealed at steps 0, 1, ..., as a sampler would: never more than are left."""

    def advance(remaining, step):
        count = jnp.minimum(rule.count(remaining, total, step, steps), remaining)
        return remaining - count, count

    return jax.lax.scan(advance, total, jnp.arange(LONGEST))[1]


def assert_reveals(rule, recorded):
    totals, steps = jnp.array([r[0] for r in recorded]), jnp.array([r[1] for r in recorded])
    counts = np.asarray(reveals(rule, totals, steps))
    for row, (total, count, expected) in zip(counts, recorded, strict=True):
        assert row[:count].tolist() == expected, (rule, total, count)
        assert not row[count:].any()


@pytest.fixture
def recorded():
    return records("samplers/counts")


def test_linear_counts_are_lladas(recorded):
    assert max(steps for _, steps, _ in recorded["llada"]) <= LONGEST
    assert len(recorded["llada"]) > 100
    assert_reveals(LinearCounts(), recorded["llada"])


@pytest.mark.parametrize(
    "mode, schedule", [("linear", Linear()), ("cosine", Cosine()), ("pow2", MaskGitSquare())]
)
def test_alpha_counts_are_maskgits_if_every_step_reveals_something(recorded, mode, schedule):
    runs = [run[1:] for run in recorded["maskgit"] if run[0] == mode and 0 not in run[3]]
    assert len(runs) >= 8
    assert_reveals(AlphaCounts(schedule), runs)


@pytest.mark.parametrize(
    "mode, schedule", [("linear", Linear()), ("cosine", Cosine()), ("pow2", MaskGitSquare())]
)
def test_alpha_counts_without_a_minimum_are_maskgits(recorded, mode, schedule):
    """But for 50 positions in 50 steps, where theirs loses whole numbers to rounding: in float64
    50 * (1 - 17/50) is a hair below 33. Its modes log and exp are no schedules of alpha alone.
    """
    runs = [run[1:] for run in recorded["maskgit"] if run[0] == mode]
    runs = [run for run in runs if run[:2] != [50, 50] or mode == "cosine"]
    assert len(runs) >= 13
    assert_reveals(AlphaCounts(schedule, least=0), runs)


@pytest.mark.parametrize("name, eps", [("dream", 1e-3), ("smdm", 1e-5)])
def test_ancestral_counts_are_dreams_and_smdms(recorded, name, eps):
    """Which products of float32 fall short of a whole number is theirs too."""
    assert len(recorded[name]) > 70 and any(run[2][0] == 0 for run in recorded[name])
    assert_reveals(AncestralCounts(eps), recorded[name])


def test_ancestral_counts_by_hand():
    """Eight positions in eight steps: the mean of the first is just below one."""
    counts = reveals(AncestralCounts(), jnp.array([8, 8, 5]), jnp.array([8, 4, 1]))
    assert counts[:, :9].tolist() == [
        [0, 1, 1, 1, 1, 1, 1, 2, 0],
        [1, 2, 2, 3, 0, 0, 0, 0, 0],
        [5, 0, 0, 0, 0, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_all_is_revealed_within_the_steps_and_something_at_each(rule):
    total, steps = jnp.array([64, 50, 31, 8, 7]), jnp.array([10, 50, 16, 8, 1])
    counts = np.asarray(reveals(rule, total, steps))
    np.testing.assert_array_equal(counts.sum(axis=1), total)
    for row, last in zip(counts, steps, strict=True):
        busy = np.flatnonzero(row)
        assert busy[-1] < last and len(busy) == busy[-1] + 1
    assert isinstance(rule, CountRule) and hash(rule) == hash(type(rule)(**vars(rule)))


def test_alpha_counts_are_exact_for_whole_numbers():
    """In float32, 50 * (1 - 1/50) may fall short of 49."""
    steps = jnp.arange(1, 51)
    counts = np.asarray(reveals(AlphaCounts(Linear()), jnp.full(50, 50), steps))
    for row, n in zip(counts, range(1, 51), strict=True):
        kept = [50 * (n - step) // n for step in range(n + 1)]
        assert row[:n].tolist() == (-np.diff(kept)).tolist()


def test_linear_counts_of_a_block_by_hand():
    assert reveals(LinearCounts(), jnp.array([10]), jnp.array([4]))[0, :5].tolist() == [
        3,
        3,
        2,
        2,
        0,
    ]


def test_schedules_order_the_reveals_differently():
    """Cosine and MaskGIT's square start slowly, polynomial 2 starts fast."""
    total, steps = jnp.array([64]), jnp.array([8])
    even, cosine, square, polynomial = (
        np.asarray(reveals(rule, total, steps))[0, :8]
        for rule in (
            LinearCounts(),
            AlphaCounts(),
            AlphaCounts(MaskGitSquare()),
            AlphaCounts(Polynomial(2.0)),
        )
    )
    assert (even == 8).all()
    assert (np.diff(cosine) >= 0).all() and cosine[0] < 8 and square[0] < 8
    assert polynomial[0] > 8 and polynomial.tolist() == square[::-1].tolist()


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_shares_multiply_to_the_schedule(rule):
    """Independent reveals leave the schedule's share masked after every step, and none at the end."""
    steps = 7
    shares = jax.vmap(lambda step: rule.share(step, jnp.int32(steps)))(jnp.arange(steps + 2))
    schedule = rule.schedule if isinstance(rule, AlphaCounts) else Linear()
    times = 1.0 - jnp.arange(1, steps + 1) / steps
    expected = 1.0 - jax.vmap(schedule.alpha)(times)
    np.testing.assert_allclose(np.cumprod(1.0 - shares[:steps]), expected, atol=1e-5)
    np.testing.assert_array_equal(shares[steps - 1 :], 1.0)


def test_ancestral_shares_are_those_of_its_time_grid():
    """Dream's `origin`: after each step but the last, the time t of an even grid is masked."""
    shares = jax.vmap(lambda step: AncestralCounts(0.01).share(step, jnp.int32(5)))(jnp.arange(7))
    grid = np.linspace(1.0, 0.01, 6)
    np.testing.assert_allclose(np.cumprod(1.0 - shares[:4]), grid[1:5], atol=1e-6)
    np.testing.assert_array_equal(shares[4:], 1.0)


def test_settings_of_the_rules_are_shown_in_their_names():
    total, steps = jnp.array([64]), jnp.array([48])
    shown = [
        AlphaCounts(),
        AlphaCounts(least=0),
        AlphaCounts(Linear()),
        LinearCounts(),
        AncestralCounts(),
        AncestralCounts(0.2),
    ]
    assert len({str(rule) for rule in shown}) == len(shown) and str(AlphaCounts()) == "cosine"
    counts = [np.asarray(reveals(rule, total, steps))[0, :48].tolist() for rule in shown]
    assert len({tuple(row) for row in counts}) == len(shown)


def test_given_counts_are_taken_and_scaled_to_other_totals():
    def taken(rule, total, steps):
        left, found = total, []
        for step in range(steps):
            found.append(int(rule.count(*map(jnp.asarray, (left, total, step, steps)))))
            left -= found[-1]
        return found

    rule = GivenCounts((1, 2, 5))
    assert taken(rule, 8, 3) == [1, 2, 5] and taken(rule, 16, 3) == [2, 4, 10]
    assert taken(rule, 8, 2) == [1, 7]  # fewer steps: the last takes what is left
    assert taken(rule, 2, 3)[:2] == [1, 1]
    shares = [float(rule.share(jnp.asarray(step), jnp.asarray(3))) for step in range(3)]
    np.testing.assert_allclose(shares, [1 / 8, 2 / 7, 1])
    assert str(rule) == "1,2,5"
    with pytest.raises(ValueError, match="counts must be at least 1 each"):
        GivenCounts((2, 0))
