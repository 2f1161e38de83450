"""Policies for canvases of several modalities: counts of each, and penalties of released systems."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_world import LENGTH, ROWS, VOCAB, observe, reveal

from mdm_jax.errors import MdmError
from mdm_jax.evals.labels import describe_policy
from mdm_jax.policies.count_schedules import GivenCounts, LinearCounts
from mdm_jax.policies.heuristics import ConfidenceThreshold, LeftToRight, TopConfidence
from mdm_jax.policies.mask_git import Constant, MaskGit
from mdm_jax.policies.penalties import CodebookPenalty, PositionPenalty, RepetitionPenalty
from mdm_jax.policies.per_modality import PerModality
from mdm_jax.runs import stream_policies
from mdm_jax.runs.policy_specs import resolve
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample
from mdm_jax.tasks.digits3 import Digits3
from mdm_jax.tasks.sudoku import Sudoku

MASK, PAD = 4, 5
MODALITY = jnp.array([-1, 0, 0, 0, 0, -1, 1, 1, 1, 1, 1, 1])
COUNTS = LinearCounts()
POLICY = PerModality(LeftToRight(), MODALITY, (2, 3), (0, 2), (COUNTS, GivenCounts((1, 2, 3))))
FLAT = jax.tree_util.Partial(
    lambda canvas, valid, positions=None: jnp.zeros((len(canvas), 4)).at[:, 1].set(1.0)
)


def generate(policy, canvases, **settings):
    config = SamplerConfig(mask_id=MASK, pad_id=PAD, budget=12, **settings)
    keys = jax.random.split(jax.random.key(0), len(canvases))
    return sample(keys, jnp.asarray(canvases), denoise=FLAT, policy=policy, config=config)


def test_each_modality_has_its_own_calls():
    """Text in two calls, then the image in three, by counts of its own; where a prompt shows the text,
    the image starts at once; and where the last call of the text leaves a gap, it is not wasted.
    """
    canvases = np.where(np.asarray(MODALITY) < 0, 0, MASK)[None].repeat(2, axis=0)
    canvases[1, 1:5] = 0
    found = generate(POLICY, canvases)
    assert found.revealed_at.tolist() == [
        [-1, 0, 0, 1, 1, -1, 2, 3, 3, 4, 4, 4],
        [-1, -1, -1, -1, -1, -1, 0, 1, 1, 2, 2, 2],
    ]
    assert found.nfe.tolist() == [5, 3]
    late = generate(replace(POLICY, starts=(0, 3)), canvases)  # a knob: compiles nothing
    assert late.revealed_at[0].tolist() == [-1, 0, 0, 1, 1, -1, 2, 3, 4, 5, 5, 5]
    assert late.nfe.tolist() == [6, 3]


def test_of_one_modality_it_is_its_base():
    one = PerModality(LeftToRight(), jnp.zeros(LENGTH, jnp.int32), (5,), (0,), (COUNTS,))
    np.testing.assert_array_equal(reveal(one, observe(3)), reveal(LeftToRight(5), observe(3)))


def test_the_task_says_where_its_modalities_are():
    task = Digits3()
    policy = resolve(stream_policies.PerModality(steps=(1, 4, 8)), "", FLAT, task)
    assert (policy.modality == task.stream.modality).all()
    told = describe_policy(policy)
    assert (told["steps"], told["starts"], told["schedules"]) == (
        "1,4,8",
        "0,0,0",
        "linear," * 2 + "linear",
    )
    for settings, where, problem in (
        ({"steps": (1, 2)}, task, r"--policy.steps must be 1 or 3 \(text, image, speech\)"),
        ({"starts": (-1,)}, task, "starts must be at least 0"),
        ({}, Sudoku(), "several modalities, not for sudoku"),
    ):
        with pytest.raises(MdmError, match=problem):
            resolve(stream_policies.PerModality(**settings), "", FLAT, where)
    repeats = stream_policies.RepetitionPenalty(modality="speech")
    speech = task.stream.spans[2]
    policy = resolve(repeats, "", FLAT, task)
    assert (policy.vocab, policy.first_id, policy.ids) == (4, speech.first_id, speech.ids)
    with pytest.raises(MdmError, match="smell is none of text, image, speech"):
        resolve(replace(repeats, modality="smell"), "", FLAT, task)


# ---- penalties ---------------------------------------------------------------------------------


def test_the_tail_looks_unsure_while_much_is_masked():
    """Equal confidences become those of tempered logits, falling from the free positions to the end;
    without a tail beyond these nothing changes, and a number added to all logits changes nothing.
    """
    policy = PositionPenalty(ConfidenceThreshold(0.7), 3.0, free=LENGTH // 2)
    is_masked = jnp.ones(LENGTH, bool)
    factors = np.asarray(policy.factors(is_masked))
    late = LENGTH - LENGTH // 2
    np.testing.assert_allclose(
        factors, [1.0] * (LENGTH // 2) + [1 + 2 * i / late for i in range(late)], rtol=1e-6
    )
    assert (policy.factors(jnp.arange(LENGTH) < LENGTH // 2) == 1).all()
    logits = np.zeros((ROWS, LENGTH, VOCAB), np.float32)
    logits[..., 3] = 4.0
    eligible = np.ones((ROWS, LENGTH), bool)
    shown = np.exp(4.0 / factors) / (np.exp(4.0 / factors) + VOCAB - 1)
    got = reveal(policy, observe(0, logits, eligible))
    assert (got == (shown >= 0.7)).all() and 0 < got[0].sum() < LENGTH
    np.testing.assert_array_equal(got, reveal(policy, observe(0, logits - 50.0, eligible)))


def test_coarse_codebooks_come_first():
    """A level costs as much as its penalty in log-confidence; without one it is its base."""
    levels = jnp.arange(LENGTH) % 2
    base = MaskGit(4, COUNTS, 0.0)
    none, strict = CodebookPenalty(base, levels, 0.0), CodebookPenalty(base, levels, 1e3)
    np.testing.assert_array_equal(reveal(none, observe(4)), reveal(TopConfidence(4), observe(4)))
    got, eligible = reveal(strict, observe(4)), np.asarray(observe(4).eligible)
    coarse = eligible & (np.arange(LENGTH) % 2 == 0)
    mixed = (got & ~coarse).any(axis=1)
    assert (got[mixed] >= coarse[mixed]).all() and mixed.any() and not mixed.all()
    assert replace(strict, base=MaskGit(annealing=Constant())).steps == 8


def test_what_was_revealed_becomes_less_likely():
    """Three ids, p = (.5, .3, .2): after id 0 the odds of .5^2 and .3 choose id 1, then .3^2 < .2."""
    skewed = jnp.log(jnp.array([0.5, 0.3, 0.2, 1e-9]))
    constant = jax.tree_util.Partial(
        lambda canvas, valid, positions=None: jnp.broadcast_to(skewed + 7.0, (len(canvas), 4))
    )
    config = SamplerConfig(mask_id=MASK, pad_id=PAD, budget=4)
    canvas, keys = jnp.full((1, 4), MASK), jax.random.split(jax.random.key(0), 1)

    def run(policy):
        found = sample(keys, canvas, denoise=constant, policy=policy, config=config)
        return found.canvas[0].tolist()

    policy = RepetitionPenalty(LeftToRight(4), 4, 2.0)
    assert run(policy) == [0, 1, 0, 0]  # .25 > .2 > .09
    assert run(replace(policy, penalty=3.0)) == [0, 1, 2, 0]  # .125 < .2, and .125 > .027
    assert run(replace(policy, penalty=3.0, first_id=1, ids=2)) == [0, 0, 0, 0]
    assert run(replace(policy, penalty=1.0)) == [0, 0, 0, 0]
