"""What comes out, as a distribution: exact one token at a time, and not when two go at once."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.policies.heuristics import (
    Ancestral,
    ConfidenceThreshold,
    EntropyBound,
    LeftToRight,
    LowEntropy,
    Random,
    TopConfidence,
    TopMargin,
)
from mdm_jax.policies.switch import as_switch
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample
from mdm_jax.tasks.sudoku.task import all_grids

COUNT, MASK, PAD = 4096, 9, -1
TABLE = np.array(list(itertools.product(range(3), repeat=3)))
PROBS = np.random.default_rng(0).dirichlet(np.full(27, 0.7))
JOINT = oracle_of(TABLE, 3, MASK, PROBS)
GRIDS = oracle_of(all_grids(), 4, MASK)


def run(policy, canvases, denoise, seed):
    config = SamplerConfig(
        mask_id=MASK, pad_id=PAD, budget=canvases.shape[1], temperature=1.0, record=True
    )
    rollout = sample(
        jax.random.split(jax.random.key(seed), COUNT),
        jnp.asarray(canvases),
        denoise=denoise,
        policy=policy,
        config=config,
    )
    return jax.tree.map(np.asarray, rollout)


def fit_to_the_joint(policy, seed, first=MASK):
    """p-value that samples which begin with `first` follow the joint."""
    canvases = np.tile([first, MASK, MASK], (COUNT, 1))
    codes = run(policy, canvases, JOINT, seed).canvas @ np.array([9, 3, 1])
    probs = PROBS * ((first == MASK) | (TABLE[:, 0] == first))
    possible = probs > 0
    counts = np.bincount(codes, minlength=27)
    assert counts[~possible].sum() == 0
    return stats.chisquare(counts[possible], COUNT * (probs / probs.sum())[possible]).pvalue


def any_order(steps):
    """Policies that reveal one token at a time, or more, as choices of one compiled program."""
    return as_switch((Random(steps), LeftToRight(steps), TopConfidence(steps)))


@pytest.mark.parametrize("kind", range(3))
def test_one_token_at_a_time_samples_the_joint_and_two_at_once_do_not(kind):
    """In any order, even one that looks at the tokens; with part of it given as well."""
    assert fit_to_the_joint(any_order(3)[kind], seed=1) > 1e-3
    assert fit_to_the_joint(any_order(3)[kind], seed=2, first=1) > 1e-3
    assert fit_to_the_joint(any_order(2)[kind], seed=3) < 1e-6
    assert fit_to_the_joint(any_order(1)[kind], seed=4) < 1e-6


# ---- 4x4 Sudoku: its 288 grids, and how often a grid comes out right ---------------------------

ZOO = [
    (Ancestral(4), 0.306),
    (TopConfidence(4), 0.422),
    (TopMargin(4), 0.397),
    (LowEntropy(4), 0.406),
    (EntropyBound(0.05), 1.0),
    (ConfidenceThreshold(0.9), 1.0),
    (Random(16), 1.0),
]
CHOICES = dict(
    zip([policy for policy, _ in ZOO], as_switch(tuple(policy for policy, _ in ZOO)), strict=True)
)


def puzzles(seed):
    """0 to 4 clues in uniform cells of a uniform grid."""
    rng = np.random.default_rng(seed)
    grids = all_grids()[rng.integers(288, size=COUNT)]
    places = rng.permuted(np.tile(np.arange(16), (COUNT, 1)), axis=1)
    return np.where(places < rng.integers(5, size=(COUNT, 1)), grids, MASK)


def is_grid(canvases):
    """Which of the 288 grids each canvas is, [count, 288]; none where it is not valid."""
    return (canvases[:, None] == all_grids()[None]).all(axis=2)


def solve(policy):
    """Share of valid grids, mean denoiser calls, and the rollout."""
    rollout = run(CHOICES[policy], puzzles(6), GRIDS, seed=7)
    return is_grid(rollout.canvas).any(axis=1).mean(), rollout.nfe.mean(), rollout


def test_one_cell_at_a_time_draws_every_grid_equally_often():
    everything = np.full((COUNT, 16), MASK)
    seen = is_grid(run(CHOICES[Random(16)], everything, GRIDS, seed=5).canvas)
    assert seen.any(axis=1).all()
    assert stats.chisquare(seen.sum(axis=0)).pvalue > 1e-3


@pytest.mark.parametrize("policy, expected", ZOO[:4], ids=str)
def test_four_steps_on_sudoku(policy, expected):
    """The expected shares were measured elsewhere, by another program with the same rules."""
    share, calls, _ = solve(policy)
    assert abs(share - expected) < 0.03 and calls <= 4


def test_entropy_bound_on_sudoku():
    share, calls, _ = solve(EntropyBound(0.05))
    assert share == 1.0 and abs(calls - 5.4) < 0.1


def test_confidence_threshold_on_sudoku():
    """At 0.9 only certain cells go together: no top-1 probability lies between 0.9 and 1."""
    share, calls, rollout = solve(ConfidenceThreshold(0.9))
    assert share == 1.0 and abs(calls - 7.1) < 0.1
    seen = rollout.trace.confidence[rollout.trace.is_masked]
    assert not ((seen >= 0.9) & (seen < 1 - 1e-5)).any() and (seen > 1 - 1e-5).mean() > 0.1
