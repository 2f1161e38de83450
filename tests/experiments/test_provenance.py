"""What is stored is never taken for something else: other weights, questions, answers, tokenizers.

Nothing is generated here: generations that the settings would give are written by hand.
"""

import json
import shutil
from dataclasses import replace

import pytest
from published_files import write_checkpoint
from tiny_run import REWARDED, write_untrained

from experiments._cli.learning import learning_run
from mdm_jax.errors import MdmError
from mdm_jax.evals.generate import Batching
from mdm_jax.evals.of_run import EvaluationConfig, load_evaluation
from mdm_jax.evals.sample_lines import Sample
from mdm_jax.policies.heuristics import TopConfidence
from mdm_jax.runs.denoisers import load_denoiser
from mdm_jax.runs.published import Loading
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.prompted import HumanEval, PromptedMath
from mdm_jax.tasks.sudoku import Sudoku

POLICY = TopConfidence(1)


def evaluate(run, task, directory):
    """Open an evaluation as the experiments do, and store what it lacks."""
    config = EvaluationConfig(
        run=str(run),
        task=task,
        split="test",
        examples=2,
        sampling=SamplerConfig(),
        batching=Batching(2),
        loading=Loading(),
        seed=0,
        out_dir=str(directory),
    )
    with load_evaluation(config).open("evaluate") as evaluator:
        missing = sorted({0, 1} - set(evaluator.done(POLICY).tolist()))
        label, length = evaluator.label(POLICY), task.length
        samples = [Sample(label, i, [0] * length, "", 1, 1, None, [0]) for i in missing]
        asked = evaluator.asked
        evaluator.store.append([one._replace(asked=asked[one.index]) for one in samples])
        return missing


@pytest.fixture
def runs(tmp_path):
    """Two denoisers of the same task and number of updates."""
    for seed in (0, 1):
        write_untrained(tmp_path / f"run-{seed}", seed)
    return tmp_path / "run-0", tmp_path / "run-1"


def test_weights_of_runs(runs, tmp_path):
    """The second evaluation reported the first one's generations as its own."""
    assert evaluate(runs[0], Sudoku(), tmp_path / "out") == [0, 1]
    assert evaluate(runs[0], Sudoku(), tmp_path / "out") == []
    with pytest.raises(MdmError, match=r"out holds a run with another configuration \(weights: "):
        evaluate(runs[1], Sudoku(), tmp_path / "out")


def test_a_denoiser_that_changes_while_others_learn_from_it(runs, tmp_path):
    """Rows of both weights shared one table."""
    config = replace(REWARDED, denoiser=str(runs[0]), run_dir=str(tmp_path / "policy"))
    for _ in range(2):
        with learning_run(config, "learn_policy"):
            pass
    assert load_denoiser(tmp_path / "policy").step == 0
    shutil.rmtree(runs[0] / "checkpoints")
    shutil.copytree(runs[1] / "checkpoints", runs[0] / "checkpoints")
    with (
        pytest.raises(MdmError, match=r"configuration \(denoiser_identity\.weights: "),
        learning_run(config, "learn_policy"),
    ):
        pass
    with pytest.raises(MdmError, match=r"run-0 has other weights than when .*policy learned with"):
        load_denoiser(tmp_path / "policy")


@pytest.fixture
def published(tmp_path):
    """A checkpoint, problems, and a task that asks them."""
    checkpoint = write_checkpoint(tmp_path / "tiny")
    lines = [{"problem": f"{i}+1?", "solution": f"\\boxed{{{i + 1}}}"} for i in range(3)]
    write_lines(tmp_path / "data" / "test.jsonl", lines)
    task = PromptedMath(checkpoint=str(checkpoint), data_dir=str(tmp_path / "data"), gen_length=4)
    assert evaluate(checkpoint, task, tmp_path / "out") == [0, 1]
    return checkpoint, task, tmp_path / "data" / "test.jsonl"


def write_lines(path, lines):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def replaced(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_copies_of_all_files_are_the_same(published, tmp_path):
    checkpoint, task, data = published
    shutil.copytree(checkpoint, tmp_path / "copy")
    shutil.copytree(data.parent, tmp_path / "elsewhere")
    moved = replace(task, checkpoint=str(tmp_path / "copy"), data_dir=str(tmp_path / "elsewhere"))
    assert evaluate(tmp_path / "copy", moved, tmp_path / "out") == []


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("data/test.jsonl", '"0+1?"', '"0+7?"', "since index 0 was generated, its prompt"),
        ("data/test.jsonl", "boxed{2}", "boxed{3}", "since index 1 was generated, its reference"),
        ("tiny/tokenizer_config.json", "| trim", "", "chat_template: "),
        ("tiny/tokenizer.json", '"ignore_merges": false', '"ignore_merges": true', "tokenizer: "),
        ("tiny/config.json", "10000.0", "5000.0", "model_config: "),
    ],
)
def test_changed_files_of_a_published_checkpoint(published, tmp_path, name, old, new, message):
    checkpoint, task, _ = published
    replaced(tmp_path / name, old, new)
    with pytest.raises(MdmError, match=message):
        evaluate(checkpoint, replace(task, truncate=False), tmp_path / "out")


def test_changed_weights_of_a_published_checkpoint(published, tmp_path):
    checkpoint, task, _ = published
    other = write_checkpoint(tmp_path / "other", seed=1)
    shutil.copy(other / "model.safetensors", checkpoint)
    with pytest.raises(MdmError, match=r"configuration \(weights: '\w+', now '\w+'\)"):
        evaluate(checkpoint, replace(task, truncate=False), tmp_path / "out")


def test_changed_tests_of_programs(published, tmp_path):
    checkpoint, _, data = published
    exercise = {"task_id": "T/0", "prompt": "def f():\n", "canonical_solution": "    return 1\n"}
    exercise |= {"test": "def check(f):\n    assert f() == 1\n", "entry_point": "f"}
    path = data.with_name("HumanEval.jsonl")
    write_lines(path, [exercise, exercise | {"task_id": "T/1"}])
    task = HumanEval(checkpoint=str(checkpoint), data_dir=str(path), gen_length=4)
    assert evaluate(checkpoint, task, tmp_path / "programs") == [0, 1]
    replaced(path, "f() == 1", "f() == 2")
    with pytest.raises(MdmError, match="since index 0 was generated, its reference has changed"):
        evaluate(checkpoint, replace(task, execute=True), tmp_path / "programs")
