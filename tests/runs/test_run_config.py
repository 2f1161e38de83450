"""config.json of a run read back: its task."""

import json

import pytest

from mdm_jax.runs.config import read_task
from mdm_jax.runs.description import describe
from mdm_jax.tasks.chains import Chains
from mdm_jax.tasks.sudoku import Sudoku
from mdm_jax.tasks.text import Text8


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("abcd " * 200)
    return str(path)


@pytest.mark.parametrize("kind", [Sudoku, Chains, Text8])
def test_a_task_is_read_back_from_its_run(tmp_path, corpus, kind):
    settings = {
        Sudoku: {"side": 9, "min_clues": 20},
        Chains: {"depth": 2, "operators": "+-"},
        Text8: {"data_dir": corpus, "length": 32},
    }
    task = kind(**settings[kind])
    described = {"format": 2, "experiment": "train_denoiser", "task": describe(task)}
    (tmp_path / "config.json").write_text(json.dumps(described))
    assert read_task(tmp_path) == task
