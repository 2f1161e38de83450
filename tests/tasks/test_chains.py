"""Chains: programs that are what they say, splits that share none, a verifier that is strict."""

import re

import jax
import numpy as np
import pytest

from mdm_jax.tasks.chains.programs import draw_programs, outcomes
from mdm_jax.tasks.chains.task import _IDS, Chains, encode

TASK = Chains()
EOS = TASK.vocabulary.eos_id


def texts(task, tokens):
    return [task.decode(row) for row in tokens]


def canvas_with(response, prompt="7 +5 *2 -3=?", after_eos=()):
    """A canvas whose response is `response`, EOS, `after_eos`, EOS..."""
    tokens = np.full(TASK.length, TASK.vocabulary.pad_id)
    head = encode(prompt)
    body = (encode(response) + [EOS, *after_eos] + [EOS] * TASK.gen_length)[: TASK.gen_length]
    tokens[: len(head) + TASK.gen_length] = head + body
    return tokens


def test_every_text_is_a_true_left_to_right_computation():
    task = Chains(operators="+-*/", depth=4)
    for text in texts(task, task.train_batch(0, 0, 200).tokens):
        prompt, solution = text.split(" =? ")
        first, *steps = prompt.split()
        value, expected = int(first), []
        for step in steps:
            before, operand = value, int(step[1:])
            exact = {"+": before + operand, "-": before - operand, "*": before * operand}
            value = before // operand if step[0] == "/" else exact[step[0]]
            assert step[0] != "/" or value * operand == before
            expected.append(f"<<{before}{step}={value}>>")
            assert 0 <= value <= 99 and 1 <= operand <= 9
        assert solution == " ".join(expected) + f" #### {value}∎"


def test_steps_are_uniform_over_the_legal_pairs():
    results, legal = outcomes(np.array([7]), "+-/", 9, 12)
    assert results[0, legal[0]].tolist() == [8, 9, 10, 11, 12, 6, 5, 4, 3, 2, 1, 0, 7, 1]
    rng = np.random.default_rng(0)
    settings = {"depth": 1, "operators": "+-/", "max_operand": 9, "max_value": 12}
    programs = [p for p in draw_programs(rng, 30_000, **settings) if p.values[0] == 7]
    pairs, counts = np.unique([p.prompt for p in programs], return_counts=True)
    expected = len(programs) / 14
    assert len(pairs) == 14 and np.sum((counts - expected) ** 2 / expected) < 34.5  # 13 dof, p=.001


def test_batches_are_a_function_of_seed_and_step():
    one = TASK.train_batch(1, 2, 40)
    np.testing.assert_array_equal(one.tokens, Chains().train_batch(1, 2, 40).tokens)
    assert (one.tokens != TASK.train_batch(1, 3, 40).tokens).any()
    assert (one.tokens != TASK.train_batch(2, 2, 40).tokens).any()


def test_a_canvas_is_prompt_then_response_then_pad():
    tokens, maskable = TASK.train_batch(0, 0, 100)
    assert tokens.shape == maskable.shape == (100, TASK.length)
    for row, response in zip(tokens, maskable, strict=True):
        start = np.flatnonzero(row == _IDS["=?"])[0] + 1
        end = start + TASK.gen_length
        np.testing.assert_array_equal(np.flatnonzero(response), np.arange(start, end))
        assert (row[:end] < TASK.vocabulary.size).all()
        assert (row[end:] == TASK.vocabulary.pad_id).all() and row[end - 1] == EOS
    examples = TASK.examples("test", 10)
    masked = examples.canvases == TASK.vocabulary.mask_id
    assert (masked.sum(axis=1) == TASK.gen_length).all()


def test_lengths_are_reached_and_never_exceeded():
    task = Chains(depth=1, max_operand=12, max_value=144, operators="*")
    longest = encode("12 *12=?"), encode("<<12*12=144>>####144")
    assert (task.prompt_length, task.gen_length) == (len(longest[0]), len(longest[1]) + 2)
    big = Chains(depth=6, max_operand=99, max_value=9999)
    assert big.train_batch(0, 0, 200).tokens.shape == (200, big.length)


def test_splits_share_no_program():
    def prompts(tokens):
        return {text.split(" =? ")[0] for text in texts(TASK, tokens)}

    train = prompts(np.concatenate([TASK.train_batch(0, s, 256).tokens for s in range(8)]))
    test = prompts(TASK.examples("test", 256).canvases)
    heldout = prompts(TASK.heldout().tokens)
    assert len(train) > 1000 and len(test) > 150 and len(heldout) > 150
    assert not train & test and not train & heldout and not test & heldout
    assert prompts(TASK.examples("train").canvases).isdisjoint(test | heldout)


def test_fewer_examples_are_a_prefix():
    few, many = TASK.examples("test", 7), TASK.examples("test", 100)
    np.testing.assert_array_equal(few.canvases, many.canvases[:7])
    np.testing.assert_array_equal(few.references, many.references[:7])
    assert len(Chains(num_examples=5).examples().canvases) == 5


def test_true_solutions_verify_and_other_answers_do_not():
    examples = TASK.examples("test", 100)
    verify = jax.jit(jax.vmap(TASK.verify))
    responses = []
    for canvas in examples.canvases:
        prompt = TASK.decode(canvas).split(" =? ")[0]
        first, *steps = prompt.split()
        value = int(first)
        for step in steps:
            value = int(eval(f"{value}{step}"))
        responses.append(f"####{value}")
    prompts = [TASK.decode(canvas).split(" =? ")[0] + "=?" for canvas in examples.canvases]
    canvases = np.stack([canvas_with(*pair) for pair in zip(responses, prompts, strict=True)])
    assert verify(canvases, examples.references).all()
    shifted = np.roll(examples.references, 1, axis=0)
    same = (shifted == examples.references).all(axis=1)
    np.testing.assert_array_equal(verify(canvases, shifted), same)
    assert not verify(examples.canvases, examples.references).any()


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("<<7+5=12>><<12*2=24>><<24-3=21>>####21", True),
        ("####21", True),
        ("<<1+1=9>>####21", True),  # only the answer is judged
        ("####12####21", True),  # the last one counts
        ("####21####12", False),
        ("####21####", False),
        ("####2", False),
        ("####211", False),
        ("####021", False),
        ("####21 ", False),
        ("#### 21", False),
        ("####21<<", False),
        ("####", False),
        ("<<24-3=21>>", False),
        ("21", False),
        ("=?####21", True),
        ("", False),
    ],
)
def test_verifier_on_hand_made_responses(response, right):
    assert TASK.verify(canvas_with(response), np.array([2, 1, -1])) == right


def test_verifier_stops_at_the_first_eos_and_at_the_end_of_the_response():
    reference = np.array([2, 1, -1])
    assert TASK.verify(canvas_with("####21", after_eos=encode("####99")), reference)
    assert not TASK.verify(canvas_with("", after_eos=encode("####21")), reference)
    full = canvas_with("+" * (TASK.gen_length - 3) + "####21")
    assert EOS not in full and TASK.verify(full, reference)
    cut = canvas_with("+" * (TASK.gen_length - 2) + "####21")
    assert not TASK.verify(cut, reference)
    unfinished = canvas_with("####21")
    unfinished[unfinished == EOS] = TASK.vocabulary.mask_id
    assert not TASK.verify(unfinished, reference)


def test_decode_shows_masks_and_hides_padding():
    assert TASK.decode(canvas_with("<<7+5=12>>####12")) == "7 +5 *2 -3 =? <<7+5=12>> #### 12∎"
    shown = TASK.decode(TASK.examples("test", 1).canvases[0])
    assert re.fullmatch(r"\d( [-+*]\d){3} =\? ▁{31}", shown) and TASK.gen_length == 31


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 0}, "depth 0"),
        ({"num_examples": 0}, "num_examples 0"),
        ({"max_operand": 0}, "max_operand 0"),
        ({"max_operand": 100}, "max_operand 100 and max_value 99"),
        ({"max_value": 100_000}, "max_value 100000"),
        ({"operators": ""}, "operators ''"),
        ({"operators": "+^"}, r"operators '\+\^'"),
        ({"operators": "++"}, r"operators '\+\+'"),
        ({"operators": "+"}, r"no step from the value 99 that stays in 0..99"),
        ({"operators": "-"}, r"no step from the value 0 "),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Chains(**settings)


def test_a_split_without_programs_is_named():
    with pytest.raises(ValueError, match="found only 0 of 1 programs of the test split"):
        Chains(depth=1, max_operand=1, operators="*").examples("test", 1)
    with pytest.raises(ValueError, match="split 'valid'"):
        TASK.examples("valid")
