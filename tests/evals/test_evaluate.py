"""Generation, storing and scoring: whose result depends on what."""

from dataclasses import replace
from typing import ClassVar

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.diffusion.schedules import Linear
from mdm_jax.evals import generate as module
from mdm_jax.evals.evaluate import (
    describe_settings,
    evaluate,
    label_of,
    score,
    to_samples,
    verify_all,
)
from mdm_jax.evals.generate import Generated, generate, generate_sweep, padded_batches
from mdm_jax.evals.store import Sample, SampleStore
from mdm_jax.policies.count_schedules import AlphaCounts
from mdm_jax.policies.heuristics import (
    ConfidenceThreshold,
    EntropyBound,
    LeftToRight,
    TopConfidence,
)
from mdm_jax.policies.switch import as_switch
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Examples
from mdm_jax.tasks.chains.task import Chains
from mdm_jax.tasks.sudoku.task import Sudoku, all_grids
from mdm_jax.types import Rollout

TASK = Sudoku()
EXAMPLES = TASK.examples("test", 10)
ORACLE = oracle_of(all_grids(), 4, TASK.vocabulary.mask_id)
CONFIG = SamplerConfig(temperature=1.0).for_task(TASK)
POLICY = EntropyBound(0.5)


def gathered(batches):
    """Canvases, costs and indices of all batches."""
    batches = list(batches)
    return [
        np.concatenate(parts)
        for parts in zip(
            *((b.rollout.canvas, b.rollout.nfe, b.indices) for b in batches), strict=True
        )
    ]


@pytest.fixture(scope="module")
def whole():
    with jax.debug_key_reuse(True):
        return gathered(
            generate(jax.random.key(0), EXAMPLES.canvases, ORACLE, POLICY, CONFIG, batch_size=10)
        )


def test_batches_are_filled_with_copies():
    found = list(padded_batches(np.arange(3, 10), 3))
    assert [chosen.tolist() for chosen, _ in found] == [[3, 4, 5], [6, 7, 8], [9]]
    assert [filled.tolist() for _, filled in found] == [[3, 4, 5], [6, 7, 8], [9, 9, 9]]
    assert list(padded_batches(np.arange(0), 3)) == []


@pytest.mark.parametrize(
    ("batch_size", "parallel"), [(4, "vmap"), (16, "vmap"), (4, "device_map"), (8, "pmap")]
)
def test_generations_do_not_depend_on_the_batch(whole, batch_size, parallel):
    found = generate(
        jax.random.key(0),
        EXAMPLES.canvases,
        ORACLE,
        POLICY,
        CONFIG,
        batch_size=batch_size,
        parallel=parallel,
    )
    batches = list(found)
    assert [len(b.indices) for b in batches] == {4: [4, 4, 2], 8: [8, 2], 16: [10]}[batch_size]
    for batch in batches:
        assert batch.passes == batch.rollout.nfe.max() and batch.seconds > 0
    for one, expected in zip(gathered(batches), whole, strict=True):
        assert_array_equal(one, expected)
    canvases, nfe, _ = whole
    assert len(np.unique(canvases, axis=0)) > 8 and np.ptp(nfe) > 0
    given = EXAMPLES.canvases != TASK.vocabulary.mask_id
    assert_array_equal(canvases[given], EXAMPLES.canvases[given])


def test_chosen_indices_keep_their_keys(whole):
    some = np.array([7, 2, 5])
    found = gathered(
        generate(
            jax.random.key(0), EXAMPLES.canvases, ORACLE, POLICY, CONFIG, batch_size=4, indices=some
        )
    )
    assert_array_equal(found[0], whole[0][some])
    assert_array_equal(found[2], some)


def test_a_sweep_is_its_settings(whole):
    policies = [EntropyBound(0.1), POLICY]
    swept = list(
        generate_sweep(jax.random.key(0), EXAMPLES.canvases, ORACLE, policies, CONFIG, batch_size=6)
    )
    assert [[len(one.indices) for one in batch] for batch in swept] == [[6, 6], [4, 4]]
    for one, expected in zip(gathered(batch[1] for batch in swept), whole, strict=True):
        assert_array_equal(one, expected)


def test_what_does_not_fit_is_refused_at_once(monkeypatch):
    monkeypatch.setattr(module, "mapped_sampler", None)  # nothing may be compiled

    def first(config=CONFIG, **settings):
        next(generate(jax.random.key(0), EXAMPLES.canvases, ORACLE, POLICY, config, **settings))

    with pytest.raises(ValueError, match="a batch of 6 cannot be shared by 4 devices"):
        first(batch_size=6, parallel="device_map")
    with pytest.raises(ValueError, match="a batch of 0"):
        first(batch_size=0)
    with pytest.raises(ValueError, match="block_length 3 does not divide"):
        first(replace(CONFIG, block_length=3))
    with pytest.raises(ValueError, match="gen_length 17 does not fit a canvas of 16"):
        first(replace(CONFIG, gen_length=17))


class ByHand:
    """A verifier in plain Python: the sum of the canvas equals the reference."""

    name: ClassVar[str] = "by hand"
    pure_verifier: ClassVar[bool] = False
    length, gen_length, vocabulary = 2, None, None
    # of no use here
    train_batch = heldout = examples = with_prompts = staticmethod(lambda *_: None)

    def verify(self, canvas, reference):
        assert isinstance(canvas, np.ndarray)
        return int(canvas.sum()) == reference["sum"]

    def decode(self, tokens):
        return " ".join(map(str, tokens))


class Pure(ByHand):
    pure_verifier: ClassVar[bool] = True

    def verify(self, canvas, reference):
        return canvas.sum() == reference["sum"]


@pytest.mark.parametrize("task", [ByHand(), Pure()])
def test_verifiers(task):
    canvases = np.array([[1, 2], [3, 4], [0, 0]])
    found = verify_all(task, canvases, {"sum": np.array([3, 6, 0])})
    assert found.dtype == bool and found.tolist() == [True, False, True]


def test_pure_and_python_verification_agree():
    grids = np.concatenate([all_grids()[:3], all_grids()[:3] * 0])
    open_ = np.full(grids.shape, TASK.vocabulary.mask_id)
    assert verify_all(TASK, grids, open_).tolist() == [True] * 3 + [False] * 3
    one_by_one = [bool(TASK.verify(g, o)) for g, o in zip(grids, open_, strict=True)]
    assert one_by_one == verify_all(TASK, grids, open_).tolist()


def test_scores_by_hand(tmp_path):
    store = SampleStore(tmp_path / "samples.jsonl")
    columns = [
        # index, tokens, nfe, passes, seconds
        (0, [1, 2], 2, 4, None),
        (2, [0, 0], 4, 4, 0.25),
        (1, [3, 4], 3, 4, 0.75),
        (9, [5, 5], 9, 9, 9.0),  # a prompt that is not asked for here
    ]
    store.append(
        [
            Sample("label", i, tokens, "", nfe, passes, s, [0, 1])
            for i, tokens, nfe, passes, s in columns
        ]
    )
    examples = Examples(np.zeros((3, 2), int), {"sum": np.array([3, 6, 0])})
    row, correct = score(ByHand(), examples, POLICY, CONFIG, store.read("label"))
    assert correct.tolist() == [True, False, True]
    assert (row.correct, row.total, row.accuracy) == (2, 3, 2 / 3)
    # Beta(3, 2), equal tails
    assert row.low == pytest.approx(0.1941, abs=1e-4) and row.high == pytest.approx(
        0.9324, abs=1e-4
    )
    assert (row.nfe, row.nfe_min, row.nfe_max, row.passes) == (3, 2, 4, 4)
    assert row.sequences_per_second == 2  # the first batch compiled and does not count
    assert row.policy == "EntropyBound"


def test_the_first_batch_is_not_timed(tmp_path):
    rollout = Rollout(np.zeros((2, 3), int), np.array([1, 2]), None, np.zeros((2, 3), int))
    batch = Generated(np.array([4, 5]), rollout, 2, 3.0)
    examples = Examples(np.zeros((6, 3), int), np.zeros(6))
    for timed, expected in ((True, 1.5), (False, None)):
        found = to_samples("label", ByHand(), examples, batch, timed)
        assert [sample.seconds for sample in found] == [expected, expected]
        assert [sample.index for sample in found] == [4, 5]
        assert found[0].text == "0 0 0"


def test_evaluate_generates_what_is_missing(tmp_path, whole):
    store, told = SampleStore(tmp_path / "samples.jsonl"), []

    def run(examples, batch_size=4):
        told.clear()
        return evaluate(
            jax.random.key(0),
            TASK,
            examples,
            ORACLE,
            POLICY,
            CONFIG,
            store,
            batch_size=batch_size,
            on_batch=told.append,
        )

    row, _ = run(Examples(EXAMPLES.canvases[:4], EXAMPLES.references[:4]))
    assert row.total == 4 and told == [0, 4]
    assert row.sequences_per_second is None  # one batch, with its compilation
    row, correct = run(EXAMPLES)
    assert row.total == 10 and told == [4, 4, 2]
    assert row.sequences_per_second > 0
    found = store.read(label_of(POLICY, CONFIG))
    assert_array_equal(found.tokens, whole[0])
    assert_array_equal(found.nfe, whole[1])
    assert_array_equal(correct, verify_all(TASK, whole[0], EXAMPLES.references))
    assert 0 < row.correct == correct.sum()
    before = store.path.read_bytes()
    again, _ = run(EXAMPLES)
    assert again == row and told == [10] and store.path.read_bytes() == before


def test_nothing_to_evaluate(tmp_path):
    empty = Examples(EXAMPLES.canvases[:0], EXAMPLES.references[:0])
    with pytest.raises(ValueError, match="there are no examples"):
        evaluate(
            jax.random.key(0), TASK, empty, ORACLE, POLICY, CONFIG, SampleStore(tmp_path / "s")
        )


def test_labels_tell_all_that_changes_results():
    chains = SamplerConfig().for_task(Chains())
    settings = [
        (TopConfidence(8), CONFIG),
        (TopConfidence(4), CONFIG),
        (TopConfidence(8, AlphaCounts()), CONFIG),
        (TopConfidence(8, AlphaCounts(Linear())), CONFIG),
        (LeftToRight(8), CONFIG),
        (ConfidenceThreshold(0.9), CONFIG),
        (ConfidenceThreshold(0.91), CONFIG),
        *(
            (TopConfidence(8), replace(CONFIG, **changed))
            for changed in (
                {"temperature": 0.5},
                {"budget": 12},
                {"block_length": 4},
                {"top_p": 0.9},
                {"top_k": 3},
                {"policy_sees_draw": True},
                {"forbid_ids": (1,)},
                {"late_ids": (1,)},
                {"late_ids": (1, 2)},
                {"cache": "dual"},
                {"cache": "dual", "refresh": 4},
                {"commit": False},
            )
        ),
        (TopConfidence(8), chains),
        (TopConfidence(8), replace(chains, cut_eos=False)),
        (TopConfidence(8), replace(chains, guidance=1.5)),
    ]
    labels = [label_of(*one) for one in settings]
    assert len(set(labels)) == len(labels), labels
    assert label_of(TopConfidence(8), replace(CONFIG, record=True)) == labels[0]
    assert [label_of(one, CONFIG) for one in as_switch((TopConfidence(8), LeftToRight(8)))] == [
        labels[0],
        labels[4],
    ]
    assert describe_settings(TopConfidence(8), CONFIG) == {
        "steps": 8,
        "schedule": "linear",
        "temperature": 1.0,
        "budget": 16,
    }
