"""Files of problems, as data sets and editors write them."""

import json

import pytest
from published_files import write_files

from mdm_jax.tasks.prompted import PromptedMath
from mdm_jax.tasks.prompted.humaneval import read_exercises
from mdm_jax.tasks.prompted.math import read_problems

EXERCISE = {
    "task_id": "Test/0",
    "prompt": "def add(a, b):\n",
    "canonical_solution": "    return a + b\n",
    "test": "def check(candidate): pass\n",
    "entry_point": "add",
}


@pytest.mark.parametrize(
    ("record", "reference"),
    [
        ({"solution": r"so \boxed{3}", "answer": "4"}, "4"),
        ({"solution": r"so \boxed{3}"}, "3"),
        ({"solution": "nothing is left", "answer": 0}, "0"),
        ({"solution": r"not \boxed{7}", "answer": 0}, "0"),
        ({"solution": r"so \boxed{3}", "answer": None}, "3"),
        ({"answer": 2.5}, "2.5"),
    ],
)
def test_references_of_math_problems(tmp_path, record, reference):
    (tmp_path / "test.jsonl").write_text(json.dumps({"problem": "1-1?", **record}))
    assert [p.reference for p in read_problems(str(tmp_path), "test")] == [reference]


@pytest.mark.parametrize(
    "record", [{}, {"solution": 3}, {"answer": True}, {"answer": [1]}, {"solution": r"\boxed{3"}]
)
def test_math_problems_without_a_reference(tmp_path, record):
    (tmp_path / "test.jsonl").write_text(json.dumps({"problem": "1-1?", **record}))
    with pytest.raises(ValueError, match=r"test\.jsonl, line 1: "):
        read_problems(str(tmp_path), "test")


def test_training_needs_solutions(tmp_path):
    (tmp_path / "test.jsonl").write_text('{"problem": "x", "answer": 1}\n')
    (tmp_path / "train.jsonl").write_text(
        '{"problem": "x", "answer": 1}\n{"problem": "y", "answer": 1}'
    )
    checkpoint = str(write_files(tmp_path / "files"))
    task = PromptedMath(checkpoint=checkpoint, data_dir=str(tmp_path))
    assert len(task.examples("test").canvases) == 1
    with pytest.raises(ValueError, match="1 of 1 train problems have no solution to train on"):
        task.train_batch(0, 0, 1)


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85"])
def test_lines_as_other_programs_write_them(tmp_path, sign):
    """Unicode separators inside a string, a byte order mark, blank last lines."""
    exercise = {**EXERCISE, "prompt": f"def add(a, b):\n    # x{sign}y\n"}
    problem = {"problem": f"1{sign}+1?", "answer": 2}
    for name, record in {"HumanEval": exercise, "test": problem}.items():
        text = "\ufeff" + json.dumps(record, ensure_ascii=False) + "\r\n\n"
        (tmp_path / f"{name}.jsonl").write_bytes(text.encode())
    assert read_exercises(str(tmp_path))["Test/0"].prompt == exercise["prompt"]
    assert read_problems(str(tmp_path), "test")[0].question == problem["problem"]
