"""Count rules against what LLaDA's and MaskGIT's own code reveals at each step."""

import functools
import json
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.diffusion.schedules import Cosine, Linear, Polynomial
from mdm_jax.policies.counts import CountRule, Even, Ratio

LONGEST = 600
RULES = [Even(), Ratio(), Ratio(Linear()), Ratio(Polynomial(2.0)), Ratio(Polynomial(0.5))]


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
def recorded(shared_dir):
    return json.loads((shared_dir / "parity/samplers/schedules.json").read_text())


def test_even_is_lladas(recorded):
    assert max(steps for _, steps, _ in recorded["llada"]) <= LONGEST
    assert len(recorded["llada"]) > 100
    assert_reveals(Even(), recorded["llada"])


@pytest.mark.parametrize(
    "mode, schedule", [("linear", Linear()), ("cosine", Cosine()), ("pow2", MaskGitSquare())]
)
def test_ratio_is_maskgits_where_each_of_its_steps_reveals_something(recorded, mode, schedule):
    runs = [run[1:] for run in recorded["maskgit"] if run[0] == mode and 0 not in run[3]]
    assert len(runs) >= 8
    assert_reveals(Ratio(schedule), runs)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_all_is_revealed_within_the_steps_and_something_at_each(rule):
    total, steps = jnp.array([64, 50, 31, 8, 7]), jnp.array([10, 50, 16, 8, 1])
    counts = np.asarray(reveals(rule, total, steps))
    np.testing.assert_array_equal(counts.sum(axis=1), total)
    for row, last in zip(counts, steps, strict=True):
        busy = np.flatnonzero(row)
        assert busy[-1] < last and len(busy) == busy[-1] + 1
    assert isinstance(rule, CountRule) and hash(rule) == hash(type(rule)(**vars(rule)))


def test_ratio_is_exact_where_its_product_is_a_whole_number():
    """In float32, 50 * (1 - 1/50) may fall short of 49."""
    steps = jnp.arange(1, 51)
    counts = np.asarray(reveals(Ratio(Linear()), jnp.full(50, 50), steps))
    for row, n in zip(counts, range(1, 51), strict=True):
        kept = [50 * (n - step) // n for step in range(n + 1)]
        assert row[:n].tolist() == (-np.diff(kept)).tolist()


def test_even_shares_of_a_block_by_hand():
    assert reveals(Even(), jnp.array([10]), jnp.array([4]))[0, :5].tolist() == [3, 3, 2, 2, 0]


def test_schedules_order_the_reveals_differently():
    """Cosine and MaskGIT's square start slowly, polynomial 2 starts fast."""
    total, steps = jnp.array([64]), jnp.array([8])
    even, cosine, square, polynomial = (
        np.asarray(reveals(rule, total, steps))[0, :8]
        for rule in (Even(), Ratio(), Ratio(MaskGitSquare()), Ratio(Polynomial(2.0)))
    )
    assert (even == 8).all()
    assert (np.diff(cosine) >= 0).all() and cosine[0] < 8 and square[0] < 8
    assert polynomial[0] > 8 and polynomial.tolist() == square[::-1].tolist()


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_shares_multiply_to_the_schedule(rule):
    """Independent reveals leave the schedule's share masked after every step, and none at the end."""
    steps = 7
    shares = jax.vmap(lambda step: rule.share(step, jnp.int32(steps)))(jnp.arange(steps + 2))
    schedule = rule.schedule if isinstance(rule, Ratio) else Linear()
    times = 1.0 - jnp.arange(1, steps + 1) / steps
    expected = 1.0 - jax.vmap(schedule.alpha)(times)
    np.testing.assert_allclose(np.cumprod(1.0 - shares[:steps]), expected, atol=1e-5)
    np.testing.assert_array_equal(shares[steps - 1 :], 1.0)
