"""Gsm8k: canvases, epochs, prompts that are all counted, a verifier on text."""

import json

import numpy as np
import pytest

from mdm_jax.tasks.gsm8k import Gsm8k


def item(index):
    long = " and so on" * 30 if index % 10 == 9 else ""
    answer = f"{index} + 1 = <<{index}+1={index + 1}>>{index + 1}{long}\n#### {index + 1:,}"
    return {"question": f"What{' really' * (index % 13)} is {index} + 1?", "answer": answer}


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    data, cache = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("cache")
    for name, indices in {"train": range(40), "test": range(990, 1010)}.items():
        lines = [json.dumps(item(index)) for index in indices]
        (data / f"{name}.jsonl").write_text("\n".join(lines))
    return {"data_dir": str(data), "cache_dir": str(cache)}


@pytest.fixture(scope="module")
def make(directories):
    defaults = {**directories, "vocab_size": 270, "prompt_length": 64, "answer_length": 64}
    return lambda **settings: Gsm8k(**{**defaults, **settings})


@pytest.fixture(scope="module")
def task(make):
    return make()


def answered(task, canvas, text, after_eos=""):
    """The prompt of `canvas` with `text`, EOS, more text, EOS... as the response."""
    canvas = canvas.copy()
    where = np.flatnonzero(canvas == task.vocabulary.mask_id)
    ids, more = task.tokenizer.encode([text, after_eos])
    response = (ids + [task.vocabulary.eos_id, *more] + [task.vocabulary.eos_id] * 500)[
        : len(where)
    ]
    canvas[where] = response
    return canvas


def test_clean_canvases_hold_question_answer_and_eos(task):
    tokens, maskable = task.train_batch(0, 0, 30)
    vocabulary = task.vocabulary
    assert tokens.shape == maskable.shape == (30, 128) and task.length == 128
    for row, response in zip(tokens, maskable, strict=True):
        start = np.flatnonzero(row == task.tokenizer.separator_id)[0] + 1
        np.testing.assert_array_equal(np.flatnonzero(response), start + np.arange(64))
        assert (
            row[start + 63] == vocabulary.eos_id and (row[start + 64 :] == vocabulary.pad_id).all()
        )
        question, answer = task.decode(row).split("\n", 1)
        index = int(question.split()[-3])
        assert question == item(index)["question"]
        assert answer == f"{index} + 1 = {index + 1}\n#### {index + 1}∎"


def test_equations_are_the_annotations_alone(make):
    task = make(answers="equations")
    text = task.decode(task.train_batch(0, 0, 1).tokens[0])
    index = int(text.split("\n")[0].split()[-3])
    assert text.split("\n")[1] == f"<<{index}+1={index + 1}>> #### {index + 1}∎"


def test_default_gen_length_goes_with_the_format(make):
    assert make(answer_length=None).gen_length == 224
    assert make(answer_length=None, answers="equations").gen_length == 96
    assert make(answer_length=50).gen_length == 50


def test_without_count_padding_only_the_first_eos_counts(make, task):
    tokens, maskable = make(count_padding=False).train_batch(0, 0, 10)
    full_tokens, full = task.train_batch(0, 0, 10)
    np.testing.assert_array_equal(tokens, full_tokens)
    assert (maskable <= full).all()
    is_eos = tokens == task.vocabulary.eos_id
    np.testing.assert_array_equal((maskable & is_eos).sum(axis=1), 1)
    np.testing.assert_array_equal(maskable, full & (np.cumsum(is_eos, axis=1) - is_eos < 1))


def test_an_epoch_sees_every_item_once_in_any_batch_size(task):
    n = len(task._train.tokens)
    all_items = {row.tobytes() for row in task._train.tokens}
    assert len(all_items) == n
    for size in (1, n, n - 1):
        rows = np.concatenate([task.train_batch(5, step, size).tokens for step in range(n)])
        for epoch in range(min(3, len(rows) // n)):
            assert {r.tobytes() for r in rows[epoch * n : (epoch + 1) * n]} == all_items
    stream = [
        np.concatenate([task.train_batch(5, s, k).tokens for s in range(60 // k)]) for k in (4, 6)
    ]
    np.testing.assert_array_equal(*stream)
    orders = [task.train_batch(*where, n).tokens for where in ((5, 0), (5, 1), (6, 0))]
    assert all((orders[0] != other).any() for other in orders[1:])
    np.testing.assert_array_equal(orders[0], task.train_batch(5, 0, n).tokens)


def test_items_that_are_too_long_are_dropped_from_training_and_counted(make, task):
    total = sum(len(task.items[split]) for split in ("train", "heldout"))
    kept = len(task._train.tokens) + len(task.heldout().tokens)
    assert sum(task.dropped.values()) == total - kept == 4  # every tenth answer
    longer = make(answer_length=400)
    assert sum(longer.dropped.values()) == 0
    assert sum(make(prompt_length=24, answer_length=400).dropped.values()) > 10
    ids = task.tokenizer.encode([i.formatted("solution") for i in task.items["train"]])
    lengths = [len(answer) for answer in ids]
    longest = max(lengths)
    at_most = make(answer_length=longest)  # no room for the EOS of the longest
    assert at_most.dropped["train"] == lengths.count(longest)
    assert make(answer_length=longest + 1).dropped["train"] == 0
    with pytest.raises(ValueError, match=r"none of the .* train items fits prompt_length 2 and"):
        make(prompt_length=2).train_batch(0, 0, 1)


def test_prompts_keep_the_end_of_the_question_and_are_all_counted(make, task):
    canvases, references = task.examples()
    assert len(canvases) == 20 and references.tolist() == [f"{i + 1:,}" for i in range(990, 1010)]
    assert ((canvases == task.vocabulary.mask_id).sum(axis=1) == task.gen_length).all()
    short = make(prompt_length=9).examples()
    assert len(short.canvases) == 20 and short.canvases.shape[1] == 9 + 64
    for canvas, whole in zip(short.canvases, canvases, strict=True):
        question = whole[: np.flatnonzero(whole == task.tokenizer.separator_id)[0] + 1]
        np.testing.assert_array_equal(canvas[: min(9, len(question))], question[-9:])


def test_examples_of_each_split(task):
    few, many = task.examples("test", 3), task.examples("test", 500)
    np.testing.assert_array_equal(few.canvases, many.canvases[:3])
    assert len(many.canvases) == 20
    train, heldout = task.examples("train"), task.examples("heldout")
    assert (len(train.canvases), len(heldout.canvases)) == (37, 3)
    assert set(train.references).isdisjoint(heldout.references)
    with pytest.raises(ValueError, match="split 'dev'"):
        task.examples("dev")
    with pytest.raises(ValueError, match="count 0"):
        task.examples("test", 0)


def test_verify_reads_the_response_up_to_its_first_eos(task):
    canvases, references = task.examples("test", 20)
    canvas, reference = canvases[12], references[12]
    assert reference == "1,003"

    def verify(*texts):
        return task.verify(answered(task, canvas, *texts), reference)

    assert verify("#### 1003") and verify("It is\n#### 1,003") and verify(r"\boxed{1003}")
    assert not verify("") and not verify("1003") and not verify("#### 1004")
    assert verify("#### 1003", "#### 7") and not verify("", "#### 1003")
    assert not verify("#### 1003 and 7")
    assert not task.verify(canvas, reference)


def test_ids_that_are_no_text_are_not_skipped(task):
    canvases, references = task.examples("test", 20)
    right = answered(task, canvases[12], "#### 1003")
    place = np.flatnonzero(right == task.vocabulary.eos_id)[0] - 2
    for odd in (task.vocabulary.mask_id, task.vocabulary.pad_id, task.tokenizer.separator_id):
        spoiled = np.insert(right, place, odd)[: task.length]
        assert not task.verify(spoiled, references[12])
    assert task.verify(right, references[12])
    assert not task.verify(np.full(task.length, task.vocabulary.eos_id), references[12])


def test_decode_shows_masks_and_hides_padding(task):
    text = task.decode(task.examples("test", 11).canvases[10])
    assert text == item(1000)["question"] + "\n" + "▁" * 64


def test_settings_of_the_tokenizer_change_it(make, task, tmp_path):
    assert task.vocabulary.size == 270 and make(vocab_size=262).vocabulary.size == 262
    task.tokenizer.save(tmp_path / "tokenizer.json")
    loaded = make(tokenizer_file=str(tmp_path / "tokenizer.json"), vocab_size=262)
    assert loaded.vocabulary == task.vocabulary
    np.testing.assert_array_equal(loaded.examples().canvases, task.examples().canvases)
    with pytest.raises(ValueError, match=r"absent\.json does not exist"):
        _ = make(tokenizer_file=str(tmp_path / "absent.json")).vocabulary


def test_impossible_settings_are_named():
    with pytest.raises(ValueError, match="prompt_length 1 and answer_length 224"):
        Gsm8k(prompt_length=1)
    with pytest.raises(ValueError, match="prompt_length 192 and answer_length 1 "):
        Gsm8k(answer_length=1)


@pytest.mark.official_data
@pytest.mark.parametrize(("answers", "coverage"), [("solution", 0.97), ("equations", 0.985)])
def test_defaults_cover_the_official_data_and_gold_answers_verify(
    official_data, tmp_path, answers, coverage
):
    data_dir = str(official_data / "gsm8k")
    task = Gsm8k(data_dir=data_dir, answers=answers, cache_dir=str(tmp_path))
    assert task.dropped["train"] < (1 - coverage) * len(task.items["train"])
    canvases, references = task.examples("test")
    assert len(canvases) == 1319
    truncated = (canvases[:, task.prompt_length - 1] == task.tokenizer.separator_id).mean()
    assert truncated < 0.01
    for i in range(0, 1319, 60):
        text = task.items["test"][i].formatted(answers)
        if len(task.tokenizer.encode([text])[0]) < task.gen_length:
            assert task.verify(answered(task, canvases[i], text), references[i])
            wrong = references[(i + 60) % 1319]
            assert task.verify(answered(task, canvases[i], text), wrong) == (wrong == references[i])
