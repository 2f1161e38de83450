"""Policies that re-mask, in the sampler: what they keep, what they may not touch, and their limits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampling_world import LENGTH, MASK, Config, row_keys, toy

from mdm_jax.policies.base import Policy, stack
from mdm_jax.policies.heuristics import TopConfidence
from mdm_jax.policies.remasking.p2 import P2, P2Plus
from mdm_jax.policies.remasking.rcr import Rcr
from mdm_jax.policies.remasking.remdm import RemdmCap, RemdmConf, RemdmLoop, RemdmRescale
from mdm_jax.policies.remasking.rounds import RemdmRounds
from mdm_jax.policies.switch import as_switch
from mdm_jax.sampling.loop import sweep

# a switch that is mapped over its index runs every branch, each with the same key
pytestmark = pytest.mark.reuses_keys
ROWS, BUDGET = 120, 30
CANVASES = np.full((ROWS, LENGTH), MASK)
CANVASES[:, [0, 5, 6]] = [1, 2, 3]
ZOO = {
    "p2": P2(6),
    "p2 eager": P2(6, eta=3.0),
    "p2 eta 0": P2(6, eta=0.0),
    "p2 slow": P2(9),
    "p2+": P2Plus(6),
    "p2+ slow": P2Plus(9),
    "rcr": Rcr(6),
    "rcr slow": Rcr(9),
    "cap": RemdmCap(8, eta=0.3),
    "cap 0": RemdmCap(8, eta=0.0),
    "cap slow": RemdmCap(16, eta=0.3),
    "rescale": RemdmRescale(8, eta=0.5),
    "rescale 0": RemdmRescale(8, eta=0.0),
    "rescale slow": RemdmRescale(16, eta=0.5),
    "conf": RemdmConf(8),
    "conf slow": RemdmConf(16),
    "loop": RemdmLoop(20, eta=0.3, alpha_on=0.7),
    "loop eta": RemdmLoop(20, eta=0.1, alpha_on=0.7),
    "loop on": RemdmLoop(20, eta=0.3, alpha_on=0.7, t_on=0.8),
    "loop off": RemdmLoop(20, eta=0.3, alpha_on=0.7, t_off=0.4),
    "loop alpha": RemdmLoop(20, eta=0.3, alpha_on=0.5),
    "rounds": RemdmRounds(9, rounds=4, number=2),
    "rounds one": RemdmRounds(9, rounds=4, number=1),
    "rounds few": RemdmRounds(9, rounds=1, number=2),
    "no rounds": RemdmRounds(9, rounds=0),
    "rounds quick": RemdmRounds(3, rounds=4, number=2),
    "plain": TopConfidence(9),
}


IN_BLOCKS = ("p2", "rcr", "cap", "conf", "rounds")  # one of a kind


@functools.cache
def generate(block_length=None):
    """Every policy of the zoo on the same prompts with the same keys, by name."""
    names = list(ZOO) if block_length is None else IN_BLOCKS
    config = Config(temperature=1.0, budget=BUDGET, block_length=block_length, record=True)
    swept = sweep(
        row_keys(0, range(ROWS)),
        jnp.asarray(CANVASES),
        denoise=toy(),
        policies=stack(as_switch(tuple(ZOO[name] for name in names))),
        config=config,
    )
    swept = jax.tree.map(np.asarray, swept)
    return {name: jax.tree.map(lambda leaf, i=i: leaf[i], swept) for i, name in enumerate(names)}


def masks_left(rollout):
    """Masked positions before each call, [rows, budget]."""
    return rollout.trace.is_masked.sum(axis=2)


@pytest.mark.parametrize(
    "name, block_length", [*((name, None) for name in ZOO), *((name, 6) for name in IN_BLOCKS)]
)
def test_prompts_stay_and_everything_is_revealed_in_time(name, block_length):
    got, steps = generate(block_length)[name], ZOO[name].steps
    given = CANVASES != MASK
    np.testing.assert_array_equal(got.canvas[given], CANVASES[given])
    assert (got.canvas < MASK).all() and isinstance(ZOO[name], Policy)
    blocks = 1 if block_length is None else 2
    extra = blocks * getattr(ZOO[name], "rounds", 0)
    assert got.nfe.max() <= blocks * (steps // blocks) + extra < BUDGET
    assert (got.trace.remask & ~got.trace.is_masked).sum() == got.trace.remask.sum()
    assert not got.trace.remask[:, :, given[0]].any()


@pytest.mark.parametrize("name", IN_BLOCKS)
def test_re_masking_stays_in_the_block(name):
    trace = generate(6)[name].trace
    first, second = trace.remask[:, :, :6].any(axis=2), trace.remask[:, :, 6:].any(axis=2)
    in_first = trace.is_masked[:, :, :6].any(axis=2)
    assert first.any()
    assert second.any() or name == "rcr"  # which rarely changes its mind on so few
    assert not (first & ~in_first).any() and not (second & in_first).any()


@pytest.mark.parametrize("name", ["p2", "p2 eager", "rcr"])
def test_as_much_is_masked_as_the_schedule_says(name):
    left = masks_left(generate()[name])[:, :7]
    np.testing.assert_array_equal(left, np.tile([9, 7, 6, 4, 3, 1, 0], (ROWS, 1)))
    assert generate()[name].trace.remask.any()


def test_p2_with_eta_zero_never_re_masks_and_more_eta_re_masks_more():
    zero, one, three = (
        generate()[name].trace.remask.sum() for name in ("p2 eta 0", "p2", "p2 eager")
    )
    assert zero == 0 < one < three


def test_rcr_keeps_the_highest_running_confidence():
    """After each call nothing that is masked was surer than anything that is revealed."""
    trace = generate()["rcr"].trace
    for row in range(0, ROWS, 20):
        running = np.zeros(LENGTH)
        for step in range(5):
            masked = trace.is_masked[row, step]
            running = np.where(masked, trace.confidence[row, step], running)
            after, open_ = trace.is_masked[row, step + 1], CANVASES[row] == MASK
            assert running[after].max() <= running[open_ & ~after].min()


def test_p2_plus_keeps_to_the_order_of_its_first_call():
    trace = generate()["p2+"].trace
    assert not trace.remask.any()
    for row in range(0, ROWS, 10):
        steps = np.nonzero(trace.unmask[row].T)  # position by position: when it was revealed
        first = trace.confidence[row, 0][steps[0]]
        order = np.argsort(-first)
        assert (np.diff(steps[1][order]) >= 0).all()


@pytest.mark.parametrize("name", ["cap", "cap 0", "rescale", "rescale 0"])
def test_the_share_unmasked_is_the_schedules_whatever_sigma(name):
    """In the mean, and with the variance of independent positions (a row that finished early stays
    finished, so the last calls are left out).
    """
    left = masks_left(generate()[name])[:, 1:5] / 9
    share = 1 - np.arange(1, 5) / 8
    error = (share * (1 - share) / (9 * ROWS)) ** 0.5
    assert (np.abs(left.mean(axis=0) - share) < 4 * error).all()
    assert generate()[name].trace.remask.any() == (not name.endswith("0"))


def test_sigma_zero_is_ancestral_sampling():
    """Independent reveals at the rate 1/(steps left): no sigma, no difference."""
    zero, same = generate()["cap 0"], generate()["rescale 0"]
    np.testing.assert_array_equal(zero.canvas, same.canvas)
    masked, shown = zero.trace.is_masked, zero.trace.unmask
    for step in range(7):
        rate = shown[:, step][masked[:, step]].mean()
        count = masked[:, step].sum()
        expected = 1 / (8 - step)
        assert abs(rate - expected) < 4 * (expected * (1 - expected) / count) ** 0.5
    assert (zero.trace.unmask[:, 7] == masked[:, 7]).all()


def test_conf_re_masks_what_was_less_sure_when_revealed():
    trace = generate()["conf"].trace
    shown, hidden = trace.unmask.sum(), trace.remask.sum()
    assert 0 < hidden < shown / 2
    rates = []
    for sure in (False, True):
        kept, gone = 0, 0
        for step in range(1, 6):
            before = trace.unmask[:, step - 1]
            c = np.where(before, trace.confidence[:, step - 1], np.nan)
            chosen = before & ((c > np.nanmedian(c)) == sure)
            gone += (chosen & trace.remask[:, step]).sum()
            kept += chosen.sum()
        rates.append(gone / kept)
    assert rates[0] > rates[1]


def test_the_loop_stays_at_its_share_between_its_times():
    """t falls by 1/20: at 0.55 after nine calls, at 0.05 after nineteen."""
    got = generate()["loop"]
    left = masks_left(got)[:, :18] / 9
    remasks = got.trace.remask.any(axis=(0, 2))
    assert not remasks[:9].any() and remasks[9:18].all()
    np.testing.assert_allclose(left[:, 10:15].mean(axis=0), 0.3, atol=0.04)


def test_rounds_replace_the_least_sure_tokens_of_a_block():
    """Nine positions one by one: after seven calls, four times two are replaced."""
    got, plain = generate()["rounds"], generate()["plain"]
    left = masks_left(got)
    np.testing.assert_array_equal(left[:, :7], np.tile(np.arange(9, 2, -1), (ROWS, 1)))
    np.testing.assert_array_equal(left[:, 7:14], np.tile([4, 4, 4, 4, 2, 1, 0], (ROWS, 1)))
    np.testing.assert_array_equal(got.trace.proposal[:, :7], plain.trace.proposal[:, :7])
    for row in range(0, ROWS, 20):
        order = np.nonzero(got.trace.unmask[row, :6])[1]
        c = got.trace.confidence[row, np.arange(6), order]
        first = set(np.flatnonzero(got.trace.remask[row, 6]))
        seventh = got.trace.confidence[row, 6][got.trace.is_masked[row, 6]].max()
        worst = set(order[np.argsort(c)[:2]])
        assert first <= worst and (len(first) == 2 or seventh < np.sort(c)[1])


def test_without_rounds_it_is_top_confidence():
    ours, plain = generate()["no rounds"], generate()["plain"]
    masked = ours.trace.is_masked
    np.testing.assert_array_equal(masked, plain.trace.is_masked)
    np.testing.assert_array_equal(ours.canvas, plain.canvas)


@pytest.mark.parametrize(
    "name, others",
    [
        ("p2", ["p2 eager", "p2 eta 0", "p2 slow"]),
        ("p2+", ["p2+ slow"]),
        ("rcr", ["rcr slow"]),
        ("cap", ["cap 0", "cap slow"]),
        ("rescale", ["rescale 0", "rescale slow"]),
        ("conf", ["conf slow"]),
        ("loop", ["loop eta", "loop on", "loop off", "loop alpha"]),
        ("rounds", ["rounds one", "rounds few", "rounds quick"]),
    ],
)
def test_every_knob_changes_something(name, others):
    for other in others:
        assert (generate()[name].canvas != generate()[other].canvas).any(axis=1).mean() > 0.05, (
            other
        )


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: P2(0), "steps"),
        (lambda: P2(4, -1.0), "eta"),
        (lambda: P2Plus(0), "steps"),
        (lambda: Rcr(0), "steps"),
        (lambda: RemdmCap(0), "steps"),
        (lambda: RemdmConf(0), "steps"),
        (lambda: RemdmRounds(0), "steps"),
        (lambda: RemdmRounds(4, -1), "rounds"),
        (lambda: RemdmRounds(4, 1, 0), "number"),
    ],
)
def test_knobs_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()
