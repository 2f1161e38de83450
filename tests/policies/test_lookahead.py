"""Policies that call the denoiser themselves against plain twins, and how their calls are counted."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.orders.exact.total_correlation import total_correlation
from mdm_jax.policies.lookahead.info_gain import InfoGain
from mdm_jax.policies.lookahead.lopa import Lopa
from mdm_jax.policies.lookahead.punt import Punt
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample
from mdm_jax.types import Observation

LENGTH, VOCAB, ROWS = 6, 2, 40
MASK, PAD = VOCAB, VOCAB + 1
TABLE = np.array(list(itertools.product(range(VOCAB), repeat=LENGTH)))
RNG = np.random.default_rng(0)
PROBS = RNG.dirichlet(np.full(len(TABLE), 0.3))
ORACLE = oracle_of(TABLE, VOCAB, MASK, PROBS)
TERNARY = np.array(list(itertools.product(range(3), repeat=LENGTH)))
# three tokens and their copies, one in ten of which is another token: no canvas is impossible
COPIED = np.where(TERNARY[:, :3] == TERNARY[:, 3:], 0.9, 0.05).prod(axis=1)
COPIES = oracle_of(TERNARY, 3, 3, COPIED)
EVERYWHERE = jnp.ones(LENGTH, bool)
TOKENS = TABLE[RNG.choice(len(TABLE), ROWS, p=PROBS)]
SHOWN = RNG.random((ROWS, LENGTH)) < RNG.random((ROWS, 1)) * 0.7
CANVASES = np.where(SHOWN, TOKENS, MASK)
PROPOSALS = TABLE[RNG.integers(len(TABLE), size=ROWS)]
CASES = [
    *(Punt(epsilon) for epsilon in (1e-4, 0.01, 0.3)),
    Lopa(0.9, 3),
    Lopa(0.75, 2, share=1.0),
    InfoGain(3, candidates=4, certain=0.9),
]


@jax.jit
def decide(policy, keys, canvases, proposals):
    def one(key, canvas, proposal):
        masked, zero = canvas == MASK, jnp.zeros((), jnp.int32)
        counts = zero, zero + 9, zero, jnp.sum(masked), zero + 1
        seen = Observation(ORACLE(canvas, EVERYWHERE), proposal, masked, masked, *counts)
        ahead = jax.vmap(lambda reveal: ORACLE(jnp.where(reveal, proposal, canvas), EVERYWHERE))
        return policy(key, seen._replace(lookahead=ahead), ())[0]

    return jax.vmap(one)(keys, canvases, proposals)


def conditionals(canvas):
    """p(token | canvas), by enumeration; uniform where nothing fits."""
    fits = PROBS * np.all((canvas == MASK) | (canvas == TABLE), axis=1)
    if not fits.sum():
        return np.full((LENGTH, VOCAB), 1 / VOCAB)
    return np.stack([fits @ (v == TABLE) for v in range(VOCAB)], axis=1) / fits.sum()


def after(canvas, proposal, reveal):
    return conditionals(np.where(np.isin(np.arange(LENGTH), list(reveal)), proposal, canvas))


def entropy(probs):
    return -np.sum(np.where(probs > 0, probs * np.log(np.where(probs > 0, probs, 1)), 0), axis=-1)


def punt_twin(policy, canvas, proposal, revealed):
    now, masked = conditionals(canvas), np.flatnonzero(canvas == MASK)
    ranked = sorted(masked, key=lambda k: -now[k].max())
    tests = math.ceil(math.log2(len(ranked)))
    kept = list(ranked)
    for bit in reversed(range(tests)):
        tested = [k for k in kept if ranked.index(k) >> bit & 1]
        then = after(canvas, proposal, set(kept) - set(tested))
        for k in tested:
            possible = now[k] > 0
            with np.errstate(divide="ignore"):
                moved = np.sum(now[k][possible] * np.log(now[k][possible] / then[k][possible]))
            if moved > policy.epsilon:
                kept.remove(k)
    return set(kept), tests


def lopa_twin(policy, canvas, proposal, revealed):
    now, masked = conditionals(canvas), np.flatnonzero(canvas == MASK)
    ranked = sorted(masked, key=lambda k: -now[k].max())
    anchor = [k for k in ranked if now[k].max() >= policy.threshold] or ranked[:1]
    branches = [anchor] + [[*anchor, k] for k in ranked[len(anchor) :][: policy.branches]]
    scores = []
    for branch in branches:
        then = after(canvas, proposal, branch).max(axis=-1)
        left = sorted(then[k] for k in masked if k not in branch)
        future = np.mean(left[: math.ceil(policy.share * len(left))]) if left else 1.0
        scores.append(future * (now[branch[-1]].max() if len(branch) > len(anchor) else 1.0))
    best = set(branches[int(np.argmax(scores))])
    if len(anchor) == len(masked):
        return best, 0
    return best, len(branches) - (len(best) < len(masked))


def info_gain_twin(policy, canvas, proposal, revealed):
    """The sets are drawn at random, so it is only checked that the one taken may be the best of some."""
    now, masked = conditionals(canvas), np.flatnonzero(canvas == MASK)
    certain = {k for k in masked if now[k].max() >= policy.certain}
    if certain:
        return certain, 0
    count = math.ceil(len(masked) / policy.steps)
    assert len(revealed) == count
    return revealed, (policy.candidates - 1) * (count < len(masked))


@pytest.mark.parametrize("policy", CASES, ids=str)
def test_equals_its_twin(policy):
    keys = jax.random.split(jax.random.key(1), ROWS)
    found = jax.device_get(decide(policy, keys, jnp.asarray(CANVASES), jnp.asarray(PROPOSALS)))
    twin = {Punt: punt_twin, Lopa: lopa_twin, InfoGain: info_gain_twin}[type(policy)]
    for row, (canvas, proposal) in enumerate(zip(CANVASES, PROPOSALS, strict=True)):
        if (canvas == MASK).any():
            revealed = set(np.flatnonzero(found.unmask[row]).tolist())
            expected = twin(policy, canvas, proposal, revealed)
            assert (revealed, found.extra_calls[row]) == expected


def test_info_gain_takes_the_best_set():
    """With many draws every set of two is drawn: the best one by the formula is taken."""
    policy = InfoGain(3, candidates=200, position_temperature=100.0, certain=1.1)
    canvas, proposal = np.full(LENGTH, MASK), TOKENS[0]
    found = decide(policy, jax.random.split(jax.random.key(2), 1), canvas[None], proposal[None])
    now, worth = entropy(conditionals(canvas)), {}
    for pair in itertools.combinations(range(LENGTH), 2):
        then = entropy(after(canvas, proposal, pair))
        left = [then[k] for k in range(LENGTH) if k not in pair]
        worth[pair] = -now[list(pair)].sum() - np.mean(left)
    assert tuple(np.flatnonzero(found.unmask[0]).tolist()) == max(worth, key=worth.get)


@pytest.fixture(scope="module")
def of_copies():
    """PUNT on three tokens and their copies."""
    config = SamplerConfig(3, 4, budget=LENGTH, temperature=1.0, record=True)
    keys, blank = jax.random.split(jax.random.key(3), 32), jnp.full((32, LENGTH), 3)
    return sample(keys, blank, denoise=COPIES, policy=Punt(1e-3), config=config)


def test_punt_separates_copies_and_every_call_is_counted(of_copies):
    """One of each pair, then the others: 1 + 3 tests of six positions, and 1 + 2 of three."""
    first = np.asarray(of_copies.trace.unmask[:, 0])
    assert (first[:, :3] ^ first[:, 3:]).all()
    np.testing.assert_array_equal(of_copies.nfe, 7)
    np.testing.assert_array_equal(of_copies.passes, 7)


def test_punt_loses_nothing_where_dependence_shows_in_pairs(of_copies):
    blank = jnp.full((32, LENGTH), 3)
    lost = jax.vmap(total_correlation, (None, 0, 0))(COPIES, blank, of_copies.trace.unmask[:, 0])
    np.testing.assert_allclose(lost, 0, atol=1e-5)


def test_no_lookahead_with_a_cache():
    config = SamplerConfig(3, 4, budget=6, cache="dual", block_length=6)
    key = jax.random.split(jax.random.key(0), 1)
    with pytest.raises(ValueError, match="Punt looks ahead, which cannot be combined with a cache"):
        sample(key, jnp.full((1, 6), 3), denoise=COPIES, policy=Punt(), config=config)
