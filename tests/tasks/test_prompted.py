"""Tasks for published checkpoints: prompts, answers in responses, clean data to train on."""

import gzip
import json

import jax
import numpy as np
import pytest
from published_files import BOS, CONFIG, EOS, MASK, SETTINGS, VOCAB, write_files

from mdm_jax.tasks import PROMPTED
from mdm_jax.tasks.base import Task, TextTask
from mdm_jax.tasks.prompted import FreePrompt, PromptedGsm8k, PromptedMath
from mdm_jax.tasks.prompted.humaneval import HumanEval, program

ITEMS = [
    {"question": f"What is {i} + 1?", "answer": f"It is <<{i}+1={i + 1}>>{i + 1}.\n#### {i + 1:,}"}
    for i in range(995, 1025)
]
SUMS = [
    {"problem": f"Halve ${i}$.", "solution": f"It is $\\boxed{{\\frac{{{i}}}{{2}}}}$."}
    for i in range(8)
]
ADD = {
    "task_id": "Test/0",
    "prompt": 'import math\n\ndef add(a, b):\n    """Sum."""\n',
    "canonical_solution": "    return a + b\n",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
    "entry_point": "add",
}


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    """Files of every task, and of a checkpoint, as settings."""
    data, cache = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("cache")
    for task, records in {"gsm8k": ITEMS, "math": SUMS}.items():
        (data / task).mkdir()
        for name in ("train", "test"):
            text = "\n".join(json.dumps(record) for record in records)
            (data / task / f"{name}.jsonl").write_text(text)
    (data / "HumanEval.jsonl.gz").write_bytes(gzip.compress(json.dumps(ADD).encode()))
    checkpoint = str(write_files(tmp_path_factory.mktemp("files")))
    settings = {
        "gsm8k": {"data_dir": str(data / "gsm8k"), "cache_dir": str(cache)},
        "math": {"data_dir": str(data / "math")},
        "humaneval": {"data_dir": str(data)},
        "prompt": {"question": "Why?"},
    }
    return {name: {"checkpoint": checkpoint, **given} for name, given in settings.items()}


@pytest.fixture(scope="module")
def gsm8k(where):
    return PromptedGsm8k(**where["gsm8k"])


def respond(task, index, text, after_eos=""):
    """A finished canvas and its reference: `text` as the response of prompt `index`."""
    canvases, references = task.examples("test")
    reference = jax.tree.map(lambda x: x[index], references)
    ids, more = task.tokenizer.encode([text, after_eos], bare=True)
    response = [*ids, EOS, *more] + [EOS] * task.gen_length
    canvas = canvases[index].copy()
    canvas[canvas == MASK] = response[: task.gen_length]
    return canvas, reference


@pytest.mark.parametrize("name", sorted(PROMPTED))
def test_every_task_keeps_the_contract(where, name):
    task = PROMPTED[name](**where[name])
    assert task.name == name and isinstance(task, TextTask)
    for member in (m for m in vars(Task) if not m.startswith("_")):
        assert hasattr(type(task), member) or hasattr(task, member)
    canvases, references = task.examples("test", 2)
    lengths = (canvases != VOCAB).sum(axis=1)
    assert canvases.dtype == np.int32 and canvases.shape[1] == task.length
    assert ((canvases == MASK).sum(axis=1) == task.gen_length).all()
    np.testing.assert_array_equal(references.start + task.gen_length, lengths)
    for row, start in zip(canvases, references.start, strict=True):
        assert (row[start : start + task.gen_length] == MASK).all()
    assert task.decode(canvases[0]).endswith("▁" * task.gen_length)


def test_the_longest_prompt_of_the_test_split_sets_the_length(gsm8k):
    canvases, _ = gsm8k.examples("test")
    assert len(canvases) == len(ITEMS) and (canvases[:, -1] == MASK).any()
    few = gsm8k.examples("test", 3)
    np.testing.assert_array_equal(few.canvases, canvases[:3])
    assert gsm8k.length == max(map(len, gsm8k.prompts("test"))) + 256


def test_long_prompts_are_refused_or_keep_their_end(where, gsm8k):
    with pytest.raises(ValueError, match=r"30 of 30 test prompts are longer than prompt_length 40"):
        PromptedGsm8k(**where["gsm8k"], prompt_length=40).examples("test")
    cut = PromptedGsm8k(**where["gsm8k"], prompt_length=40, truncate=True)
    canvases, references = cut.examples("test")
    assert canvases.shape[1] == 40 + 256 and (references.start == 40).all()
    whole = gsm8k.prompts("test")
    for row, prompt in zip(canvases, whole, strict=True):
        np.testing.assert_array_equal(row[:40], prompt[-40:])
    roomy = PromptedGsm8k(**where["gsm8k"], prompt_length=900)
    assert roomy.length == 900 + 256 and (roomy.examples("test").canvases[:, -1] == VOCAB).all()


def test_training_prompts_that_are_too_long_are_left_out(where, gsm8k):
    lengths = np.array([len(prompt) for prompt in gsm8k.prompts("train")])
    room = int(np.median(lengths))
    task = PromptedGsm8k(**where["gsm8k"], prompt_length=room)
    found = task.examples("train", 4096).references.start
    np.testing.assert_array_equal(found, lengths[lengths <= room])
    with pytest.raises(ValueError, match="train prompts are longer than prompt_length 3"):
        PromptedGsm8k(**where["gsm8k"], prompt_length=3).examples("train")


def test_text_of_a_question_is_no_control_token(where):
    files = where["prompt"]["checkpoint"]
    for chat in (True, False):
        task = FreePrompt(checkpoint=files, question="<|mdm_mask|>?", chat=chat)
        canvases, references = task.examples("test")
        assert (canvases == MASK).sum() == task.gen_length
        assert (canvases[0][references.start[0] :][: task.gen_length] == MASK).all()


def test_a_chat_prompt_asks_for_a_box_in_tags(gsm8k):
    canvas, reference = respond(gsm8k, 0, "")
    record = gsm8k.text_record(canvas, reference)
    assert record.prompt.startswith("<|startoftext|><|start_header_id|>user<|end_header_id|>")
    assert record.prompt.endswith("assistant<|end_header_id|>\n\n") and r"\boxed{}" in record.prompt
    assert ITEMS[0]["question"] in record.prompt
    assert canvas[0] == BOS and (record.text, record.answer, record.reference) == ("", None, "996")


def test_plain_prompts_with_few_shot_examples(where):
    task = PromptedGsm8k(**where["gsm8k"], chat=False, shots=2, opening=" Well,")
    canvas, reference = respond(task, 3, " 998 + 1\n#### 999\n\nQuestion: next?\n#### 5")
    record = task.text_record(canvas, reference)
    worked = [f"Question: {i['question']}\nAnswer: {i['answer']}\n\n" for i in ITEMS[:3]]
    assert sum(part in record.prompt for part in worked) == 2  # one of the first is held out
    assert record.prompt.endswith(f"Question: {ITEMS[3]['question']}\nAnswer: Well,")
    assert (record.answer, record.reference) == ("999", "999") and task.verify(canvas, reference)
    assert len(task.problems("train")) == len(PromptedGsm8k(**where["gsm8k"]).problems("train")) - 2
    with pytest.raises(ValueError, match="100 shots leave none of the"):
        PromptedGsm8k(**where["gsm8k"], shots=100).examples("test")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{1,001}", "1001"),
        (r"<answer>\boxed{1001}</answer> not \boxed{7}", "1001"),
        (r"\boxed{x} but \boxed{1001}", "1001"),
        ("3 and 4 <answer>first 5, then 1001.</answer> 9", "1001"),
        ("<answer>1001", "1001"),
        ("it is\n#### 1001", "1001"),
        ("it is 1001", None),
        ("<answer>none</answer>", None),
        (r"\boxed{1002}", "1002"),
    ],
)
def test_answers_in_boxes_and_tags(gsm8k, text, answer):
    canvas, reference = respond(gsm8k, 5, text, after_eos=r"\boxed{1001}")
    record = gsm8k.text_record(canvas, reference)
    assert (record.text, record.answer, record.reference) == (text, answer, "1,001")
    assert gsm8k.verify(canvas, reference) == (answer == "1001")


def test_what_is_no_text_is_no_answer(gsm8k):
    canvas, reference = respond(gsm8k, 5, r"\boxed{1001} ")
    assert gsm8k.verify(canvas, reference)
    for odd in (MASK, 256, VOCAB - 1):
        spoiled = canvas.copy()
        spoiled[reference.start + 13] = odd
        record = gsm8k.text_record(spoiled, reference)
        assert not gsm8k.verify(spoiled, reference) and record.answer is None
        assert record.text.rstrip("∎") == r"\boxed{1001} " + ("▁" if odd == MASK else "�")


@pytest.mark.parametrize("end", ["<|eot_id|>", "<|endoftext|>"])
def test_a_response_ends_with_its_turn(gsm8k, end):
    """Whatever follows: another turn, MASK."""
    canvas, reference = respond(gsm8k, 5, r"\boxed{1001}")
    for after in (r"\boxed{7}<|mdm_mask|>", "<|start_header_id|>user<|end_header_id|>\n\n#### 7"):
        (response,) = gsm8k.tokenizer.encode([r"\boxed{1001}" + end + after], bare=True)
        continued = canvas.copy()
        continued[reference.start :][: len(response)] = response
        record = gsm8k.text_record(continued, reference)
        assert (record.text, record.answer) == (r"\boxed{1001}", "1001")
        assert gsm8k.verify(continued, reference)


@pytest.mark.parametrize("name", ["Question", "Problem", "Q"])
def test_few_shot_answers_end_before_invented_questions(name):
    task = PromptedGsm8k(shots=5)
    further = f"\n\n{name}: what is 2+3?\nAnswer: 5\n#### 5"
    assert task.read(f" 9+9=18\n#### 18{further}") == "18"
    assert task.read(f" 9+9=18{further}") is None
    assert task.read(" 9+9=18\n#### 18\n\nSolved again:\n#### 5") == "18"


def test_clean_sequences_are_prompts_with_answers_that_verify(where, gsm8k):
    for split, batch in {"heldout": gsm8k.heldout(), "train": gsm8k.train_batch(0, 0, 40)}.items():
        problems = gsm8k.problems(split)
        for row, response in zip(batch.tokens, batch.maskable, strict=True):
            start = int(response.argmax())
            assert response.sum() == gsm8k.gen_length == response[start:][: gsm8k.gen_length].sum()
            text = gsm8k.response_text(row, start)
            assert gsm8k.read(text) in [p.reference.replace(",", "") for p in problems]
    opened = PromptedGsm8k(**where["gsm8k"], opening="<reasoning>\n")
    assert opened.problems("train")[0].solution.startswith("It is ")
    with pytest.raises(ValueError, match=r"none of the .* train problems fits .* gen_length 3"):
        PromptedGsm8k(**where["gsm8k"], gen_length=3).train_batch(0, 0, 1)


def test_math_reads_the_last_box(where):
    task = PromptedMath(**where["math"])
    canvas, reference = respond(task, 3, r"\boxed{9} so \boxed{\dfrac32}")
    assert task.text_record(canvas, reference).answer == r"\dfrac32"
    assert reference.answer == r"\frac{3}{2}" and task.verify(canvas, reference)
    assert not task.verify(*respond(task, 3, r"\boxed{\dfrac{3}{2}} so \boxed{9}"))
    assert not task.verify(*respond(task, 3, "3/2"))
    assert len(task.problems("train")) + len(task.problems("heldout")) == len(SUMS)


def test_humaneval_runs_programs_only_on_request(where):
    careful, task = HumanEval(**where["humaneval"]), HumanEval(**where["humaneval"], execute=True)
    right = "Here:\n```python\ndef add(a, b):\n    return math.fsum([a, b])\n```\nDone."
    assert not careful.can_verify and task.can_verify
    with pytest.raises(ValueError, match=r"only on request: pass --task\.execute"):
        careful.verify(*respond(careful, 0, right))
    assert careful.text_record(*respond(careful, 0, right)).answer.startswith("def add")
    assert task.verify(*respond(task, 0, right))
    assert not task.verify(*respond(task, 0, right.replace("a, b]", "a, a]")))
    assert task.verify(*respond(task, 0, "```\n    return a + b\n"))  # the prompt goes on
    plain = HumanEval(**where["humaneval"], execute=True, chat=False)
    canvas, reference = respond(plain, 0, "    return a + b\n\ndef more():\n    1 / 0\nmore()")
    assert plain.text_record(canvas, reference).prompt == ADD["prompt"]
    assert plain.verify(canvas, reference)
    with pytest.raises(ValueError, match="has a test split only, no train"):
        task.train_batch(0, 0, 1)


@pytest.mark.official_data
def test_recorded_exercises_pass_with_their_own_solutions(official_data, where):
    task = HumanEval(
        checkpoint=where["humaneval"]["checkpoint"],
        data_dir=str(official_data / "humaneval"),
        execute=True,
        chat=False,
    )
    exercises = list(task._exercises.values())
    assert len(exercises) == len(task.problems("test")) == 164
    for exercise in exercises[::40]:
        assert task.is_right(exercise.canonical_solution, exercise.task_id)
        assert not task.is_right("    return None\n", exercise.task_id)
        assert program("pass", exercise).startswith(exercise.prompt)


@pytest.mark.official_data
def test_real_questions_fit_and_gold_answers_verify(official_data, where, tmp_path):
    task = PromptedGsm8k(
        checkpoint=where["gsm8k"]["checkpoint"],
        data_dir=str(official_data / "gsm8k"),
        cache_dir=str(tmp_path),
        gen_length=1200,
    )
    canvases, references = task.examples("test")
    assert len(canvases) == 1319 and references.answer[0] == "18"
    for index in (0, 700, 1318):
        solution = task.problems("test")[index].solution
        canvas, reference = respond(task, index, solution)
        assert task.verify(canvas, reference)
        assert not task.verify(canvas, reference._replace(answer="-1"))


def test_free_prompt(where):
    task = FreePrompt(**where["prompt"])
    canvas, reference = respond(task, 0, "Because.")
    record = task.text_record(canvas, reference)
    assert "Why?" in record.prompt and record.text == record.answer == "Because."
    assert not task.verify(canvas, reference)
    with pytest.raises(ValueError, match="there is no prompt: pass --prompt"):
        FreePrompt(checkpoint=task.checkpoint).examples("test")


def test_settings_that_mean_nothing(where, tmp_path):
    for wrong in ({"gen_length": 1}, {"prompt_length": 0}):
        with pytest.raises(ValueError, match="must be at least"):
            FreePrompt(**wrong)
    with pytest.raises(ValueError, match="shots must be >= 0"):
        PromptedGsm8k(shots=-1)
    with pytest.raises(ValueError, match=r"needs the tokenizer .* pass --denoiser DIR"):
        FreePrompt(question="Why?").examples()
    with pytest.raises(ValueError, match=r"pass .* as --data_dir"):
        PromptedMath(checkpoint=where["math"]["checkpoint"]).examples()
    with pytest.raises(ValueError, match=r"HumanEval\.jsonl\.gz or HumanEval\.jsonl"):
        HumanEval(data_dir=str(tmp_path)).problems("test")
    (tmp_path / "test.jsonl").write_text('{"problem": "x", "solution": "no box"}\n')
    with pytest.raises(ValueError, match=r"test\.jsonl, line 1: no answer in a box"):
        PromptedMath(data_dir=str(tmp_path)).problems("test")
    (tmp_path / "test.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"test\.jsonl is empty"):
        PromptedMath(data_dir=str(tmp_path)).problems("test")
    (tmp_path / "HumanEval.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="cannot be read"):
        HumanEval(data_dir=str(tmp_path)).problems("test")
    short = {**CONFIG, "max_sequence_length": 300}
    checkpoint = str(write_files(tmp_path / "short", short, SETTINGS))
    with pytest.raises(ValueError, match=r"canvas of .* exceeds .* 300"):
        FreePrompt(checkpoint=checkpoint, question="Why?", gen_length=299).examples()
