"""Tables of runs, from files and from run directories."""

import jax
import numpy as np
import pytest

from experiments import train_denoiser
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.errors import MdmError
from mdm_jax.runs.description import describe
from mdm_jax.runs.directory import CONFIG, FORMAT
from mdm_jax.runs.json_files import append_rows, write_json
from mdm_jax.runs.metrics import METRICS
from mdm_jax.runs.scaling import ColumnNames, matrix_parameters, read_runs, training_flops_per_token

NAMES = {"parameters": "Model Size", "loss": "loss", "flops": "C"}


def write_run(directory, losses, **settings):
    """config.json and metrics.jsonl of a run of train_denoiser on Sudoku, 16 positions."""
    directory.mkdir()
    config = train_denoiser.Config(**settings)
    described = {"format": FORMAT, "experiment": "train_denoiser", **describe(config)}
    write_json(directory / CONFIG, described)
    rows = [{"step": 1, "nelbo_per_token": 9.0}]
    rows += [{"step": s, "heldout_nelbo_per_token": loss} for s, loss in losses.items()]
    append_rows(directory / METRICS, rows)
    return str(directory)


def test_files_of_both_kinds(tmp_path):
    table, lines = tmp_path / "runs.csv", tmp_path / "runs.jsonl"
    table.write_text("loss,Model Size,colour\n2.5,1e6,red\n2.25,2e6,blue\n")
    lines.write_text('{"loss": 2.5, "Model Size": 1e6}\n{"loss": 2.25, "Model Size": 2000000}\n')
    for path in (table, lines):
        columns = read_runs([str(path)], NAMES)
        assert {name: column.tolist() for name, column in columns.items()} == {
            "parameters": [1e6, 2e6],
            "loss": [2.5, 2.25],
        }
    lines.write_text('{"loss": 2.5}\n{"Model Size": 1}\n')
    with pytest.raises(MdmError, match="run 2: loss is None, not a number"):
        read_runs([str(lines)], NAMES)
    table.write_text("loss,Model Size\n")
    with pytest.raises(MdmError, match="no rows of named columns"):
        read_runs([str(table)], NAMES)


def test_run_directories_say_size_tokens_and_flops(tmp_path):
    small = write_run(tmp_path / "a", {10: 0.9, 20: 0.8}, batch_size=4)
    wide = TransformerConfig(width=128)
    large = write_run(tmp_path / "b", {10: 0.7}, batch_size=8, model=wide)
    columns = read_runs([small, large], vars(ColumnNames()))
    assert columns["loss"].tolist() == [0.8, 0.7]
    assert columns["tokens"].tolist() == [20 * 4 * 16, 10 * 8 * 16]
    assert columns["parameters"][1] == matrix_parameters(wide)
    each = columns["flops"] / columns["tokens"]
    assert each[1] == training_flops_per_token(wide, 16)
    curves = read_runs([small, large], {}, curves=True)
    assert curves["run"].tolist() == [0, 0, 1] and curves["loss"].tolist() == [0.9, 0.8, 0.7]


def test_the_parameters_are_those_of_the_network():
    model = TransformerConfig(width=32, depth=2, mlp=48)
    canvas = np.zeros(8, np.int32)
    shapes = jax.eval_shape(Transformer(model, 5).init, jax.random.key(0), canvas, np.ones(8, bool))
    blocks = {k: v for k, v in shapes["params"].items() if k.startswith("block")}
    matrices = [leaf.size for leaf in jax.tree.leaves(blocks) if leaf.ndim > 1]
    assert sum(matrices) == matrix_parameters(model)


def test_runs_with_other_masks_are_not_compared(tmp_path):
    first = write_run(tmp_path / "a", {1: 1.0})
    for name, settings in (("seed", {"seed": 1}), ("heldout_rows", {"heldout_rows": 8})):
        other = write_run(tmp_path / name, {1: 1.0}, **settings)
        with pytest.raises(MdmError, match=f"differ in {name}: their held-out bounds"):
            read_runs([first, other], {})
    unfinished = write_run(tmp_path / "c", {})
    with pytest.raises(MdmError, match="has no held-out bound yet"):
        read_runs([first, unfinished], {})
