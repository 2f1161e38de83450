"""Each policy against a plain NumPy twin, its limits, and what other people's code selects."""

import inspect
import math
import operator

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_world import (
    LENGTH,
    ROWS,
    VOCAB,
    assert_reveals_and_goes_on,
    keys,
    observe,
    reveal,
    share_decided_otherwise,
)
from recorded import arrays
from scipy import stats

from mdm_jax.diffusion.schedules import Linear
from mdm_jax.policies import heuristics
from mdm_jax.policies.base import RevealAll, RevealNone, RevealOnly, confidence, top
from mdm_jax.policies.count_schedules import AlphaCounts, LinearCounts
from mdm_jax.policies.heuristics import (
    Ancestral,
    ConfidenceThreshold,
    EntropyBound,
    Factor,
    LeftToRight,
    LowEntropy,
    Random,
    Scheduled,
    TopConfidence,
    TopMargin,
)

POLICIES = [
    kind
    for _, kind in inspect.getmembers(heuristics, inspect.isclass)
    if issubclass(kind, RevealOnly) and not inspect.isabstract(kind)
]
ONE = 10**6  # so many steps that each reveals one


# ---- the twins: plain functions of one row, which list the positions to reveal ------------------


def read(logits):
    """Confidence, margin and entropy of each position."""
    odds = np.exp(logits.astype(float) - logits.max(axis=1, keepdims=True))
    probs = np.sort(odds / odds.sum(axis=1, keepdims=True))
    logs = np.log(np.where(probs > 0, probs, 1.0))
    return probs[:, -1], probs[:, -1] - probs[:, -2], -(probs * logs).sum(axis=1)


def best_first(scores, eligible):
    return sorted(np.flatnonzero(eligible), key=lambda k: -scores[k])


def count_of(schedule, eligible, observation, steps):
    steps = max(steps // observation.num_blocks, 1)
    if isinstance(schedule, LinearCounts):
        return -(-eligible.sum() // max(steps - observation.block_step, 1))
    progress = min((observation.block_step + 1) / steps, 1.0)
    kept = math.floor(observation.block_masks * math.cos(math.pi / 2 * progress) + 1e-4)
    return max(eligible.sum() - kept, 1)


def scheduled_twin(policy, o, noise):
    c, m, h = read(o.logits)
    scores = {
        TopConfidence: c,
        TopMargin: m,
        LowEntropy: -h,
        LeftToRight: -np.arange(LENGTH),
        Random: noise,
    }[type(policy)]
    return best_first(scores, o.eligible)[: count_of(policy.schedule, o.eligible, o, policy.steps)]


def ancestral_twin(policy, o, noise):
    steps = max(policy.steps // o.num_blocks, 1)
    share = 1 / max(steps - o.block_step, 1)
    chosen = [k for k in np.flatnonzero(o.eligible) if noise[k] < share]
    return chosen or best_first(-noise, o.eligible)[:1]


def threshold_twin(policy, o, noise):
    c, _, _ = read(o.logits)
    chosen = [k for k in np.flatnonzero(o.eligible) if c[k] >= policy.threshold]
    return chosen or best_first(c, o.eligible)[:1]


def factor_twin(policy, o, noise):
    c, _, _ = read(o.logits)
    order = best_first(c, o.eligible)
    passing = [
        n for n in range(1, len(order) + 1) if (n + 1) * (1 - c[order[n - 1]]) < policy.factor
    ]
    return order[: max(passing, default=1)]


def entropy_twin(policy, o, noise):
    _, _, h = read(o.logits)
    order = best_first(-h, o.eligible)
    fits = [
        n for n in range(1, len(order) + 1) if sum(h[k] for k in order[: n - 1]) <= policy.gamma
    ]
    return order[: max(fits, default=1)]


TWINS = [
    *((kind(steps), scheduled_twin) for kind in (TopConfidence, Random) for steps in (1, 5, 40)),
    *((kind(5), scheduled_twin) for kind in (TopMargin, LowEntropy, LeftToRight)),
    (TopConfidence(9, AlphaCounts()), scheduled_twin),
    *((Ancestral(steps), ancestral_twin) for steps in (1, 5, 40)),
    *((ConfidenceThreshold(x), threshold_twin) for x in (0.3, 0.9, 0.99)),
    *((Factor(x), factor_twin) for x in (0.3, 1.0, 4.0)),
    *((EntropyBound(x), entropy_twin) for x in (0.0, 0.1, 2.0)),
]


@jax.jit
@jax.vmap
def first_noise(key):
    """The draw that Random and Ancestral make before any tie is broken."""
    return jax.random.uniform(jax.random.split(key)[0], (LENGTH,))


@pytest.mark.parametrize("policy, twin", TWINS, ids=[str(policy) for policy, _ in TWINS])
@pytest.mark.parametrize("block_step, num_blocks", [(0, 1), (3, 1), (1, 2)])
def test_equals_its_twin(policy, twin, block_step, num_blocks):
    observations = observe(5, block_step=block_step, num_blocks=num_blocks)
    got = reveal(policy, observations, seed=6)
    first = np.asarray(first_noise(keys(6)))
    rows = jax.tree.map(np.asarray, observations)
    for row in range(0, ROWS, 6):
        one = jax.tree.map(operator.itemgetter(row), rows)
        expected = twin(policy, one, first[row])
        assert sorted(expected) == np.flatnonzero(got[row]).tolist(), row


# ---- promises that all of them make ------------------------------------------------------------


def test_every_policy_of_the_module_is_tested():
    assert {type(policy) for policy, _ in TWINS} == set(POLICIES)


@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize("block_step", [0, 7, 99])
def test_reveals_what_is_eligible_and_at_least_one_per_unfinished_row(kind, block_step):
    assert_reveals_and_goes_on(kind(), block_step)


@pytest.mark.parametrize("kind", [k for k in POLICIES if k is not LeftToRight])
def test_ties_are_random_and_uniform(kind):
    """All scores equal and one position to reveal: each of five equally often."""
    slow = {ConfidenceThreshold: 1.5, Factor: 0.0, EntropyBound: -1.0}
    eligible = np.zeros((ROWS, LENGTH), bool)
    eligible[:, [1, 4, 5, 9, 15]] = True
    observations = observe(9, logits=np.zeros((ROWS, LENGTH, VOCAB)), eligible=eligible)
    got = sum(reveal(kind(slow.get(kind, ONE)), observations, seed).sum(0) for seed in range(4))
    assert got.sum() == 4 * ROWS
    assert stats.chisquare(got[[1, 4, 5, 9, 15]]).pvalue > 1e-3


@pytest.mark.parametrize("kind", POLICIES)
def test_the_same_key_decides_the_same(kind):
    first, second = reveal(kind(), observe(10), 11), reveal(kind(), observe(10), 11)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "policy, other",
    [
        *((kind(4), kind(8)) for kind in POLICIES if issubclass(kind, Scheduled | Ancestral)),
        *(
            (kind(8), kind(8, AlphaCounts()))
            for kind in POLICIES
            if issubclass(kind, Scheduled | Ancestral)
        ),
        (ConfidenceThreshold(0.9), ConfidenceThreshold(0.5)),
        (Factor(1.0), Factor(3.0)),
        (EntropyBound(0.1), EntropyBound(1.0)),
    ],
    ids=str,
)
def test_every_knob_changes_something(policy, other):
    assert share_decided_otherwise(policy, other) > 0.2


@pytest.mark.parametrize("kind", [k for k in POLICIES if issubclass(k, Scheduled | Ancestral)])
def test_steps_must_be_positive(kind):
    for steps in (0, -3):
        with pytest.raises(ValueError, match="steps"):
            kind(steps)


def test_other_knobs_and_their_limits():
    with pytest.raises(ValueError, match="factor"):
        Factor(-0.1)
    # outside 0..1 and below 0 these mean something: one at a time, or all at once
    assert ConfidenceThreshold(2.0).threshold == 2.0 and EntropyBound(-1.0).gamma == -1.0


@pytest.mark.parametrize(
    "make, knobs",
    [(Random, (3, 5, 9)), (ConfidenceThreshold, (0.1, 0.5, 2.0)), (EntropyBound, (0.1, -1.0, 5.0))],
)
def test_another_knob_does_not_trace_again(make, knobs):
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def one_row(policy, key, observation):
        return policy(key, observation, policy.init(LENGTH))[0].unmask

    row = jax.tree.map(lambda leaf: leaf[0], observe(14))
    shown = [int(one_row(make(knob), jax.random.key(15), row).sum()) for knob in knobs]
    assert len(set(shown)) > 1


# ---- limits ------------------------------------------------------------------------------------


def greedy_order(policy, logits):
    """Positions in the order in which they are revealed, one at a time, for every row."""
    eligible, order = np.ones((ROWS, LENGTH), bool), []
    for step in range(LENGTH):
        chosen = reveal(policy, observe(16, logits, eligible), seed=step)
        assert (chosen.sum(axis=1) == 1).all()
        order.append(chosen.argmax(axis=1))
        eligible &= ~chosen
    return np.stack(order, axis=1)


def test_one_token_limits_are_the_same_greedy_order():
    """With two possible tokens confidence, margin and entropy put positions in the same order."""
    logits = np.full((ROWS, LENGTH, VOCAB), -np.inf)
    logits[..., :2] = np.random.default_rng(17).normal(size=(ROWS, LENGTH, 2)) * 2
    probs = 1 / (1 + np.exp(-np.abs(logits[..., 0] - logits[..., 1])))
    expected = np.argsort(-probs, axis=1)
    one_at_a_time = [TopConfidence(ONE), TopMargin(ONE), LowEntropy(ONE)]
    one_at_a_time += [ConfidenceThreshold(1.5), Factor(0.0), EntropyBound(-1.0)]
    for policy in one_at_a_time:
        got = greedy_order(policy, logits)
        assert (got == expected).all(axis=1).mean() > 0.99, policy  # float32 may swap near ties
        assert (got[:, 0] == expected[:, 0]).all(), policy


def test_entropy_bound_below_zero_is_low_entropy_one_at_a_time():
    bounded, one = reveal(EntropyBound(-1.0), observe(18)), reveal(LowEntropy(ONE), observe(18))
    np.testing.assert_array_equal(bounded, one)


@pytest.mark.parametrize(
    "policy",
    [
        ConfidenceThreshold(0.0),
        ConfidenceThreshold(-1.0),
        EntropyBound(1e9),
        Factor(1e9),
        RevealAll(),
        *(kind(1) for kind in POLICIES if issubclass(kind, Scheduled | Ancestral)),
    ],
    ids=str,
)
def test_everything_at_once(policy):
    observations = observe(19)
    np.testing.assert_array_equal(reveal(policy, observations), observations.eligible)


def test_reveal_none_reveals_nothing():
    assert not reveal(RevealNone(), observe(20)).any()


def test_ids_at_minus_infinity_do_not_change_the_decisions():
    """MASK and PAD at -inf: the same decisions as without those tokens in the vocabulary."""
    logits = np.random.default_rng(21).normal(size=(ROWS, LENGTH, VOCAB)) * 4
    tiny, apply_logit_mask = logits.copy(), logits.copy()
    tiny[..., -2:], apply_logit_mask[..., -2:] = -1e4, -np.inf
    for policy in (TopMargin(), LowEntropy(), ConfidenceThreshold(), EntropyBound(), Factor()):
        np.testing.assert_array_equal(
            reveal(policy, observe(22, apply_logit_mask)), reveal(policy, observe(22, tiny))
        )


# ---- distributions -----------------------------------------------------------------------------


def test_random_reveals_every_subset_equally_often():
    eligible = np.zeros((ROWS, LENGTH), bool)
    eligible[:, 3:8] = True
    observations = observe(23, eligible=eligible)  # 5 positions, 2 steps: 3 now
    seen = np.concatenate([reveal(Random(2), observations, seed) for seed in range(6)])
    counts = np.unique(seen[:, 3:8] @ (2 ** np.arange(5)), return_counts=True)[1]
    assert len(counts) == 10 and stats.chisquare(counts).pvalue > 1e-3


def test_ancestral_reveals_independently_and_one_position_after_an_empty_draw():
    """3 positions at share 1/4: binomial counts, with the empty draws moved to one position each."""
    eligible = np.zeros((ROWS, LENGTH), bool)
    eligible[:, 3:6] = True
    observations = observe(24, eligible=eligible, block_step=4)
    seen = np.concatenate([reveal(Ancestral(8), observations, seed) for seed in range(6)])[:, 3:6]
    q = 0.25
    each = {0: 0.0, 1: q * (1 - q) ** 2 + (1 - q) ** 3 / 3, 2: q**2 * (1 - q), 3: q**3}
    expected = [each[bin(i).count("1")] * len(seen) for i in range(1, 8)]
    counts = np.bincount(seen @ np.array([1, 2, 4]), minlength=8)
    assert counts[0] == 0 and stats.chisquare(counts[1:], expected).pvalue > 1e-3


@pytest.mark.parametrize(
    "schedule", [LinearCounts(), AlphaCounts(), AlphaCounts(Linear())], ids=str
)
def test_ancestral_shares_follow_its_schedule(schedule):
    observations = observe(25, eligible=np.ones((ROWS, LENGTH), bool), block_step=2)
    seen = reveal(Ancestral(6, schedule), observations)
    share = float(schedule.share(jnp.int32(2), jnp.int32(6)))
    assert abs(seen.mean() - share) < 4 * (share * (1 - share) / seen.size) ** 0.5 + 1e-3


# ---- what other people's code selects ----------------------------------------------------------


@pytest.fixture(scope="module")
def recorded():
    """Every recorded row several times, to fill a batch of `ROWS`."""
    single = arrays("samplers/select")
    tile = ROWS // len(single["logits"])
    return {name: np.repeat(array, tile, axis=0) for name, array in single.items()}


@pytest.mark.parametrize("threshold", ["0.0", "0.3", "0.5", "0.7", "0.9", "1.0"])
def test_threshold_is_fast_dllms(recorded, threshold):
    observations = observe(26, recorded["logits"], recorded["mask"])
    got = reveal(ConfidenceThreshold(float(threshold)), observations)
    np.testing.assert_array_equal(got, recorded[f"threshold_{threshold}"])


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_fixed_count_is_fast_dllms(recorded, count):
    one_row = jax.jit(jax.vmap(lambda k, x, e: top(k, confidence(x), e, count)))
    got = one_row(keys(27), jnp.asarray(recorded["logits"]), jnp.asarray(recorded["mask"]))
    np.testing.assert_array_equal(got, recorded[f"quota_{count}"])


def last_rank_alone_fails(scores, eligible, factor):
    order = best_first(scores, eligible)
    passes = [(n + 2) * (1 - scores[k]) < factor for n, k in enumerate(order)]
    passes[0] = True  # the best one is always revealed
    return passes == [True] * (len(order) - 1) + [False]


@pytest.mark.parametrize("factor", ["0.25", "0.5", "1.0", "2.0", "4.0"])
def test_factor_is_dllms(recorded, factor):
    """Its vectorised variant has no odd last rank."""
    got = reveal(Factor(float(factor)), observe(29, recorded["logits"], recorded["mask"]))
    np.testing.assert_array_equal(got, recorded[f"factor_dllm_{factor}"])


@pytest.mark.parametrize("factor", ["0.25", "0.5", "1.0", "2.0", "4.0"])
def test_factor_is_dinfers_but_for_its_last_rank(recorded, factor):
    """dInfer reveals the last rank too when it alone fails; the rule as written does not."""
    observations = observe(28, recorded["logits"], recorded["mask"])
    got, theirs = reveal(Factor(float(factor)), observations), recorded[f"factor_{factor}"]
    odd = np.array(
        [
            last_rank_alone_fails(*row, float(factor))
            for row in zip(recorded["confidence"], recorded["mask"], strict=True)
        ]
    )
    assert odd.any()
    np.testing.assert_array_equal(got[~odd], theirs[~odd])
    np.testing.assert_array_equal(theirs[odd], recorded["mask"][odd])
    assert (got[odd].sum(axis=1) == theirs[odd].sum(axis=1) - 1).all()
    assert not np.any(got & ~theirs)
