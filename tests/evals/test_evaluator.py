"""Generating once, storing and scoring."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from evaluation_world import CONFIG, EXAMPLES, ORACLE, POLICY, TASK, SumTask, evaluator
from numpy.testing import assert_array_equal

from mdm_jax.errors import MdmError
from mdm_jax.evals.asked import asked
from mdm_jax.evals.evaluator import Evaluator
from mdm_jax.evals.paired import compare_with_stored, paired_row
from mdm_jax.evals.sample_lines import Sample
from mdm_jax.evals.score import verify_all
from mdm_jax.evals.store import SampleStore
from mdm_jax.policies.action_distributions import PlackettLuceStop
from mdm_jax.policies.heuristics import EntropyBound, LeftToRight, TopConfidence
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.policies.networks.policy_network import PolicyConfig, PolicyNetwork
from mdm_jax.policies.switch import as_switch
from mdm_jax.tasks.base import Examples


def first(count):
    return Examples(EXAMPLES.canvases[:count], EXAMPLES.references[:count])


def test_only_what_is_missing_is_generated(tmp_path, whole):
    told = []
    few, every = (evaluator(tmp_path, first(n), batch_size=4) for n in (4, 10))
    row, _ = few.evaluate(POLICY, told.append)
    assert row.total == 4 and told == [4]
    assert row.sequences_per_second is None  # one batch, with its compilation
    every = replace(every, store=few.store)
    assert every.done(POLICY).tolist() == [0, 1, 2, 3]
    row, correct = every.evaluate(POLICY, told.append)
    assert row.total == 10 and sum(told) == 10
    assert row.sequences_per_second > 0 and row.policy == "EntropyBound"
    found = every.store.read(row.label)
    assert_array_equal(found.tokens, whole[0])
    assert_array_equal(found.nfe, whole[1])
    assert found.text[0] == TASK.decode(whole[0][0])
    assert_array_equal(correct, verify_all(TASK, whole[0], EXAMPLES.references))
    assert 0 < row.correct == correct.sum()
    before = every.store.path.read_bytes()
    again, _ = every.evaluate(POLICY, told.append)
    assert again == row and sum(told) == 10 and every.store.path.read_bytes() == before
    assert replace(every, examples=first(4)).score(POLICY).row.total == 4


def test_a_killed_evaluation_goes_on_with_what_is_missing(tmp_path, whole):
    """Killed while waiting prompts take the place of finished ones."""

    def kill(count):
        raise KeyboardInterrupt

    killed = evaluator(tmp_path, batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        killed.generate(POLICY, kill)
    assert 0 < len(killed.done(POLICY)) < 10
    resumed = evaluator(tmp_path, batch_size=4)
    resumed.generate(POLICY)
    found = resumed.store.read(resumed.label(POLICY))
    assert_array_equal(found.tokens, whole[0])
    assert_array_equal(found.nfe, whole[1])
    assert (found.passes >= found.nfe).all()


def test_a_sweep_stores_what_each_setting_generates_alone(tmp_path, whole):
    swept = evaluator(tmp_path / "swept", batch_size=6)
    swept.store.path.parent.mkdir()
    alone = replace(swept, examples=first(3))
    alone.evaluate(POLICY)  # what is there already stays
    outcomes = swept.sweep([EntropyBound(0.1), POLICY])
    assert [one.row.total for one in outcomes] == [10, 10]
    assert [one.row.settings["gamma"] for one in outcomes] == [0.1, 0.5]
    assert_array_equal(swept.store.read(outcomes[1].row.label).tokens, whole[0])
    before = swept.store.path.read_bytes()
    again = swept.sweep([EntropyBound(0.1), POLICY])
    assert [one.row for one in again] == [one.row for one in outcomes]
    assert swept.store.path.read_bytes() == before


def test_comparing_is_evaluating_each(tmp_path):
    policies, told = (TopConfidence(4), POLICY, LeftToRight(8)), []
    found = evaluator(tmp_path).compare(policies, told.append)
    assert found == told
    other = evaluator(tmp_path)  # reads what is stored
    for policy, outcome in zip(policies, found, strict=True):
        assert other.score(policy).row == outcome.row
        assert_array_equal(other.score(policy).correct, outcome.correct)
    (ours, theirs, _), (one, two) = found, compare_with_stored(other, found[0])
    assert [one.label, two.label] == [theirs.row.label, found[2].row.label]
    assert one.prompts == 10
    row = paired_row(ours, theirs)
    assert (row.row, row.better) == (theirs.row, one.difference.probability)


def test_a_second_draw_is_another_generation_and_never_taken_for_the_first(tmp_path, whole):
    first, second, third = evaluator(tmp_path).draws(3)
    labels = [draw.label(POLICY) for draw in (first, second, third)]
    assert len(set(labels)) == 3 and labels[0] == evaluator(tmp_path).label(POLICY)
    assert " draw=1 " in labels[1] and " draw=" not in labels[0]
    outcomes = [draw.evaluate(POLICY) for draw in (second, first)]
    assert_array_equal(first.store.read(labels[0]).tokens, whole[0])
    assert (first.store.read(labels[1]).tokens != whole[0]).any()
    assert outcomes[0].row.settings["draw"] == 1
    assert list(compare_with_stored(first, outcomes[1])) == []
    generated = sum(int((canvas == 4).sum()) for canvas in EXAMPLES.canvases)  # nothing ends early
    calls = first.store.read(labels[0]).nfe.sum()
    assert outcomes[1].row.tokens_per_call == pytest.approx(generated / calls)


def test_whatever_determines_a_generation_is_part_of_its_label(tmp_path):
    plain = evaluator(tmp_path)
    changes = (
        {"denoise": replace(ORACLE, probs=2 * ORACLE.probs)},
        {"denoiser": "its name"},
        {"key": jax.random.key(1)},
        {"config": replace(CONFIG, temperature=0.5)},
        {"config": replace(CONFIG, eos_id=3)},
    )
    labels = [plain.label(POLICY), *(replace(plain, **one).label(POLICY) for one in changes)]
    assert len(set(labels)) == len(labels)
    assert replace(plain, config=replace(CONFIG, record=True)).label(POLICY) == labels[0]
    assert evaluator(tmp_path, batch_size=2).label(EntropyBound(0.5)) == labels[0]
    assert labels[0].startswith("EntropyBound gamma=0.5 temperature=1.0 budget=16 id=")


def test_fields_of_a_policy_that_are_not_shown_are_part_of_its_label(tmp_path):
    """`family` and `candidate_top_k` were not: two policies shared a label."""
    network = PolicyNetwork(PolicyConfig(width=8, heads=2), 16, 4)
    policy = LearnedPolicy(network, {"w": np.zeros(20)}, 4)
    changes = (
        {"family": PlackettLuceStop()},
        {"candidate_top_k": 2},
        {"network": PolicyNetwork(PolicyConfig(width=8, heads=4), 16, 4)},
        {"params": {"w": np.ones(20)}},
        {"fallback": "spend"},
        {"scale": 2.0},
    )
    label = evaluator(tmp_path).label
    labels = [label(policy), *(label(replace(policy, **one)) for one in changes)]
    assert len(set(labels)) == len(labels)
    switched = as_switch((policy, POLICY))
    assert [label(one) for one in switched] == [labels[0], label(POLICY)]


def test_generations_are_not_scored_against_other_questions(tmp_path):
    stored = evaluator(tmp_path, first(3))
    stored.evaluate(POLICY)
    evaluator(tmp_path)  # more of the same prompts
    canvases, references = EXAMPLES
    other = canvases.copy()
    other[2, 0] = 3 - other[2, 0]
    with pytest.raises(MdmError, match=r"answers other questions: since index 2 .* its prompt \("):
        evaluator(tmp_path, Examples(other, references))
    compared = references.copy()
    compared[1] += 1
    with pytest.raises(MdmError, match="since index 1 was generated, its reference has changed"):
        evaluator(tmp_path, Examples(canvases, compared))
    evaluator(tmp_path, Examples(other[:2], references[:2]))  # those did not change


def test_references_are_told_apart_by_what_is_in_them():
    canvases = np.zeros((2, 3), np.int32)

    def digests(*leaves):
        return asked(Examples(canvases, dict(enumerate(map(np.array, leaves)))))

    words = digests(["7", "12"], [0, 1])
    assert words[0] == digests(["7", "longer"], [0, 1])[0]  # whatever the others are
    assert words[0] != digests(["8", "12"], [0, 1])[0]
    assert words[0] != digests(["7", "12"], [1, 1])[0]
    assert len({one.partition("-")[0] for one in words}) == 1


def test_nothing_to_evaluate(tmp_path):
    with pytest.raises(ValueError, match="there are no examples"):
        evaluator(tmp_path, first(0)).evaluate(POLICY)


def test_prompts_beyond_the_examples_are_not_scored(tmp_path):
    examples = Examples(np.zeros((3, 2), int), {"sum": np.array([3, 6, 0])})
    store = SampleStore(tmp_path / "samples.jsonl")
    by_hand = Evaluator(SumTask(), examples, ORACLE, CONFIG, store, jax.random.key(0))
    label = by_hand.label(POLICY)
    canvases = {0: [1, 2], 2: [0, 0], 1: [3, 4], 9: [5, 5]}
    store.append(
        [Sample(label, i, tokens, "", 2, 4, None, [0, 1]) for i, tokens in canvases.items()]
    )
    assert by_hand.score(POLICY).correct.tolist() == [True, False, True]
