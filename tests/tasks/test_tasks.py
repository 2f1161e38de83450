"""What all tasks have in common."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from digits_world import settings_in

from mdm_jax.evals.score import take
from mdm_jax.tasks import TASKS
from mdm_jax.tasks.base import Task, Vocabulary


@pytest.fixture
def built(tmp_path):
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question\n" * 200)
    record = {"question": "What is 1 + 1?", "answer": "It is <<1+1=2>>2.\n#### 2"}
    for name in ("train", "test"):
        lines = [json.dumps({**record, "question": f"What is {i}?"}) for i in range(8)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    where = {"data_dir": str(tmp_path)}
    cache = {"cache_dir": str(tmp_path / "cache")}
    settings = {"sudoku": {}, "chains": {}, "gsm8k": {**where, **cache}, "text8": where}
    settings |= {"markov_chain": {}, "digits3": settings_in(tmp_path)}
    return {name: task(**settings[name]) for name, task in TASKS.items()}


def test_names():
    assert sorted(TASKS) == ["chains", "digits3", "gsm8k", "markov_chain", "sudoku", "text8"]
    assert all(task.name == name for name, task in TASKS.items())


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_task_keeps_the_contract(built, name):
    task, vocabulary = built[name], built[name].vocabulary
    for member in (m for m in vars(Task) if not m.startswith("_")):
        assert hasattr(task, member)
    for batch in (task.train_batch(0, 0, 3), task.heldout()):
        assert batch.tokens.dtype == np.int32 and batch.tokens.shape[1] == task.length
        assert batch.maskable.dtype == bool and batch.maskable.shape == batch.tokens.shape
        assert (batch.tokens[batch.maskable] < vocabulary.size).all()
        produced = (batch.tokens < vocabulary.size) | (batch.tokens == vocabulary.pad_id)
        assert produced.all() and (batch.tokens >= 0).all()
    examples = task.examples("test", 2)
    assert examples.canvases.dtype == np.int32 and examples.canvases.shape == (2, task.length)
    masked = (examples.canvases == vocabulary.mask_id).sum(axis=1)
    assert (masked == task.gen_length).all() if task.gen_length else (masked > 0).all()
    assert not task.verify(examples.canvases[0], take(examples.references, 0))
    assert task.decode(examples.canvases[0])
    assert dataclasses.replace(task) == task and hash(dataclasses.replace(task)) == hash(task)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_prompts_are_not_maskable(built, name):
    task = built[name]
    for batch in (task.train_batch(0, 0, 40), task.heldout()):
        prompted = task.with_prompts(batch, 1)
        np.testing.assert_array_equal(prompted.tokens, batch.tokens)
        assert prompted.tokens.dtype == np.int32 and prompted.maskable.dtype == bool
        assert (prompted.maskable <= batch.maskable).all() and prompted.maskable.any(axis=1).all()
        np.testing.assert_array_equal(prompted.maskable, task.with_prompts(batch, 1).maskable)
        narrower = batch._replace(maskable=batch.maskable & (np.arange(task.length) % 2 == 0))
        both = batch.maskable & narrower.maskable & prompted.maskable
        np.testing.assert_array_equal(task.with_prompts(narrower, 1).maskable, both)


@pytest.mark.parametrize("name", ["chains", "gsm8k"])
def test_where_prompts_are_never_maskable_the_batch_is_unchanged(built, name):
    task = built[name]
    batch = task.train_batch(0, 0, 5)
    for seed in (0, 1):
        assert task.with_prompts(batch, seed) is batch
    masked = np.where(batch.maskable, task.vocabulary.mask_id, batch.tokens)
    shown = task.examples("train", 5).canvases
    assert ((masked == task.vocabulary.mask_id).sum(1) == task.gen_length).all()
    assert ((shown == task.vocabulary.mask_id).sum(1) == task.gen_length).all()


def test_tfds_and_tokenizers_are_imported_only_when_used():
    check = (
        "import sys, mdm_jax.tasks; print({'tensorflow_datasets', 'tokenizers'} & {*sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_mask_and_pad_come_after_all_ids_unless_given():
    ours, mask_inside, mask_after = (
        Vocabulary(5),
        Vocabulary(5, mask_id=3),
        Vocabulary(5, mask_id=5),
    )
    assert (ours.mask_id, ours.pad_id) == (5, 6) and ours == mask_after
    assert (mask_inside.mask_id, mask_inside.pad_id) == (3, 5) and mask_inside != ours
    assert hash(Vocabulary(5, unused=(4,))) != hash(ours)
    for wrong in ({"pad_id": 4}, {"mask_id": 6, "pad_id": 6}, {"mask_id": -1}):
        with pytest.raises(ValueError, match="must differ"):
            Vocabulary(5, **wrong)
