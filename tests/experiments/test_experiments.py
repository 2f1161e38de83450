"""Each experiment once on a tiny run: what it writes, what it returns, what it does not do again."""

import json
import math
import shutil
import time
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from tiny_run import POLICIES, TRAIN, contents, tiny

from experiments import (
    benchmark,
    evaluate,
    frontier,
    generative_frontier,
    quickstart,
    sample,
    train_denoiser,
)
from mdm_jax.denoisers.transformer import TransformerConfig
from mdm_jax.errors import MdmError
from mdm_jax.evals.store import SampleStore
from mdm_jax.policies.heuristics import EntropyBound, LeftToRight, TopConfidence
from mdm_jax.runs.denoisers import load_denoiser
from mdm_jax.runs.description import describe
from mdm_jax.runs.policy_specs import Perturbed
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.sudoku import Sudoku
from mdm_jax.training import loop


def read_json(path):
    return json.loads(path.read_text())


def test_quickstart_writes_what_it_says(trained):
    directory, rows = trained
    assert {
        path.name for path in directory.iterdir() if not path.name.startswith(("ev", "fr"))
    } == {
        ".lock",
        "comparison",
        "config.json",
        "env.json",
        "metrics.jsonl",
        "checkpoints",
        "table.json",
        "order_map.png",
        "training.png",
    }
    for figure in directory.glob("*.png"):
        assert figure.read_bytes()[:4] == b"\x89PNG"
    assert (directory / "frontier.png").stat().st_size > 10_000
    assert read_json(directory / "config.json")["model"]["max_length"] == 16
    steps = [json.loads(line)["step"] for line in (directory / "metrics.jsonl").open()]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert sorted(path.name for path in (directory / "checkpoints").iterdir()) == ["3", "6"]
    assert [row["policy"] for row in read_json(directory / "table.json")] == [
        r.policy for r in rows
    ]


def test_a_denoiser_goes_on_from_the_weights_of_another_run(trained, tmp_path):
    """With a schedule of its own; at a learning rate of almost nothing it stays there."""
    still = replace(TRAIN.optimizer, learning_rate=1e-9)
    start = shutil.copytree(trained[0], tmp_path / "start")
    config = replace(
        TRAIN, start=str(start), optimizer=still, steps=1, run_dir=str(tmp_path / "further")
    )
    before, after = load_denoiser(trained[0]).denoise, train_denoiser.train(config).denoise
    close = partial(np.testing.assert_allclose, atol=1e-6)
    jax.tree.map(close, after.params, before.params)
    other = replace(config, model=replace(config.model, depth=2), run_dir=str(tmp_path / "other"))
    with pytest.raises(ValueError, match="is not the one to be trained: give the same --model"):
        train_denoiser.train(other)
    assert not (tmp_path / "other").exists()
    shutil.rmtree(start / "checkpoints" / "6")  # back to the one before
    with pytest.raises(MdmError, match=r"another configuration \(start_identity\.weights: "):
        train_denoiser.train(config)
    path = tmp_path / "further" / "config.json"  # as an earlier version wrote it
    described = read_json(path)
    del described["start_identity"]
    path.write_text(json.dumps(described))
    train_denoiser.train(config)


def test_quickstart_rows(trained):
    _, rows = trained
    assert [row.policy for row in rows] == [type(policy).__name__ for policy in POLICIES]
    for row, policy in zip(rows, POLICIES, strict=True):
        assert row.total == 12 and 0 <= row.correct <= 12
        assert row.low < (row.correct + 1) / 14 < row.high  # posterior mean
        assert 1 <= row.nfe_min <= row.nfe <= row.nfe_max <= row.passes + 1e-9
        if hasattr(policy, "steps"):
            assert row.nfe_max <= policy.steps == row.settings["steps"]
        assert row.sequences_per_second > 0


def test_quickstart_does_nothing_twice(trained, monkeypatch):
    directory, rows = trained

    def never(*_, **__):
        raise AssertionError("trained or generated again")

    before = contents(directory)
    monkeypatch.setattr("mdm_jax.training.denoiser.train_step", never)
    monkeypatch.setattr("mdm_jax.evals.generate.mapped_sampler", lambda *_: never)
    monkeypatch.setattr("mdm_jax.evals.generate.mapped_refill", never)
    began = time.perf_counter()
    again = quickstart.run(tiny(directory), POLICIES)
    assert time.perf_counter() - began < 30
    assert [describe(row) for row in again] == [describe(row) for row in rows]
    after = contents(directory)
    same = {name for name in before if before[name] == after.get(name)}
    assert {"config.json", "metrics.jsonl", "comparison/samples.jsonl", "table.json"} <= same
    assert {name for name in before if name.startswith("checkpoints/")} <= same
    assert len(read_json(directory / "env.json")) == 2


def test_evaluate_stores_goes_on_and_compares(trained, capsys):
    run, _ = trained
    config = evaluate.Config(run=str(run), examples=6, batch_size=4, policy=LeftToRight(4))
    first = evaluate.run(config)
    assert "against" not in capsys.readouterr().out
    more = evaluate.run(replace(config, examples=10))
    assert more.row.total == 10
    assert more.correct[:6].tolist() == first.correct.tolist()
    evaluate.run(replace(config, examples=10, policy=EntropyBound(1.0), batch_size=10))
    told = " ".join(capsys.readouterr().out.split())
    assert "against LeftToRight steps=4" in told and "McNemar p" in told and "10 prompts" in told
    assert "P(better)" in told and "against EntropyBound" not in told
    directory = run / "evaluate-sudoku-test-0"
    rows = [json.loads(line) for line in (directory / "rows.jsonl").open()]
    assert [(row["policy"], row["total"]) for row in rows] == [
        ("LeftToRight", 10),
        ("EntropyBound", 10),
    ]
    store = SampleStore(directory / "samples.jsonl")
    assert [len(store.done(label)) for label in store.settings()] == [10, 10]


def test_draws_give_pass_at_k_beside_reading_order(trained, tmp_path, capsys):
    run, _ = trained
    config = evaluate.Config(
        run=str(run),
        examples=6,
        batch_size=4,
        policy=LeftToRight(4),
        sampling=SamplerConfig(temperature=1.0),
        draws=2,
        pass_at=(1, 2),
        left_to_right=True,
        out_dir=str(tmp_path),
    )
    evaluate.run(config)
    told = capsys.readouterr().out
    assert "pass@1 of 2 draws:" in told
    (row,) = [json.loads(line) for line in (tmp_path / "rows.jsonl").open()]
    once, twice = row["pass_at"]
    assert once["value"] <= twice["value"] <= min(2 * once["value"], 1)
    store = SampleStore(tmp_path / "samples.jsonl")
    assert [len(store.done(label)) for label in store.settings()] == [6, 6]


def test_evaluating_on_devices_gives_the_same_generations(trained, tmp_path):
    run, _ = trained
    config = evaluate.Config(run=str(run), examples=6, batch_size=4, policy=TopConfidence(4))
    found = []
    for parallel in ("vmap", "device_map", "pmap"):
        directory = tmp_path / parallel
        evaluate.run(replace(config, parallel=parallel, out_dir=str(directory)))
        store = SampleStore(directory / "samples.jsonl")
        found.append(store.read(store.settings()[0]))
    for other in found[1:]:
        np.testing.assert_array_equal(other.tokens, found[0].tokens)
        np.testing.assert_array_equal(other.nfe, found[0].nfe)
        np.testing.assert_array_equal(other.revealed_at, found[0].revealed_at)


def test_a_killed_evaluation_goes_on(trained, tmp_path):
    """Cut in the middle of a line, as a killed writer leaves it; the same generations come again."""
    run, _ = trained
    directory = tmp_path / "evaluation"
    config = evaluate.Config(
        run=str(run), examples=10, batch_size=4, policy=LeftToRight(4), out_dir=str(directory)
    )
    whole = evaluate.run(config)
    path = directory / "samples.jsonl"
    label = SampleStore(path).settings()[0]
    expected = SampleStore(path).read(label)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    left = len(SampleStore(path).done(label))
    assert 0 < left < 10
    again = evaluate.run(config)
    assert again.row.correct == whole.row.correct
    found = SampleStore(path).read(label)
    for name in ("index", "tokens", "text", "nfe", "revealed_at"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_frontier_sweeps_draws_and_reuses(trained, capsys, monkeypatch):
    run, _ = trained
    config = frontier.Config(
        run=str(run),
        steps=(),
        thresholds=(0.3, 0.9),
        factors=(),
        gammas=(1.0,),
        policy=Perturbed(TopConfidence()),
        knob="base.steps",
        values=(2.0, 4.0),
        examples=6,
    )
    rows = frontier.run(config)
    assert [(row.policy, row.total) for row in rows] == [
        ("ConfidenceThreshold", 6),
        ("ConfidenceThreshold", 6),
        ("EntropyBound", 6),
        ("Perturbed", 6),
        ("Perturbed", 6),
    ]
    assert [row.nfe for row in rows[3:]] == [2.0, 4.0]
    assert rows[0].nfe <= rows[1].nfe
    assert "area under the frontier, 1 to 16" in capsys.readouterr().out
    directory = run / "frontier-sudoku-test-0"
    assert (directory / "frontier.png").stat().st_size > 10_000
    assert len(read_json(directory / "table.json")) == 5
    monkeypatch.setattr("mdm_jax.evals.generate.sweep", None)  # nothing is generated again
    again = frontier.run(config)
    assert json.dumps(describe(again)) == json.dumps(
        describe(rows)
    )  # a rate that is not there is NaN


def test_temperatures_give_a_curve_for_each_policy(trained, tmp_path, capsys):
    run, _ = trained
    settings = {"temperatures": (0.5, 1.0), "examples": 6, "masks": 2, "out_dir": str(tmp_path)}
    config = generative_frontier.Config(run=str(run), policy=LeftToRight(4), **settings)
    points = generative_frontier.run(config)
    assert points[0].entropy < points[1].entropy
    generative_frontier.run(replace(config, policy=LeftToRight(2)))
    assert "perplexity" in capsys.readouterr().out
    curves = read_json(tmp_path / "generative.json")
    assert [len(found) for found in curves.values()] == [2, 2]
    assert (tmp_path / "generative.png").stat().st_size > 10_000


def test_a_swept_policy_generates_as_it_does_alone(trained, capsys):
    run, _ = trained
    alone = evaluate.run(
        evaluate.Config(run=str(run), examples=6, policy=EntropyBound(1.0), batch_size=4)
    )
    swept = frontier.Config(
        run=str(run), steps=(), thresholds=(), factors=(), gammas=(0.5, 1.0), examples=6
    )
    swept = replace(swept, out_dir=str(run / "frontier-b"), calls=16.0, heldout_prompts=6)
    assert frontier.run(swept)[1].nfe == alone.row.nfe
    assert "chosen on held-out prompts" in capsys.readouterr().out


def test_sample_shows_finished_grids(trained, capsys):
    run, _ = trained
    texts = sample.run(sample.Config(run=str(run), first=1, count=2))
    shown = capsys.readouterr().out
    assert len(texts) == 2
    for text in texts:
        assert "." not in text and text in shown.replace(" \n", "\n")
    assert "prompt 1:" in shown and "prompt 2:" in shown and "prompt 0:" not in shown


def test_loaded_denoiser_is_the_average_of_training(trained):
    directory, _ = trained
    loaded = load_denoiser(directory)
    assert loaded.step == 6 and loaded.task == Sudoku()
    assert loaded.denoise.module.config == replace(TRAIN.model, max_length=16)
    with pytest.raises(
        ValueError, match=r"was trained with .*size=4.*but task sudoku has .*size=9"
    ):
        load_denoiser(directory, Sudoku(side=9))


def test_benchmark_compiles_each_job_once():
    config = benchmark.Config(
        model=TransformerConfig(width=16, depth=1, heads=2),
        vocab=4,
        length=8,
        batch_size=4,
        steps=2,
        samples=2,
        repeats=2,
    )
    rows = benchmark.run(config)
    names = ["denoiser call", "sampler step", "training step", "order step", "policy iteration"]
    assert [row.name for row in rows] == names
    for row in rows:
        assert row.compilations == 1, row
        assert row.milliseconds > 0 and row.compile_seconds > 0
        assert math.isclose(row.tokens_per_second, 32e3 / row.milliseconds)
        assert 0 < row.share_of_peak < 1
    # by hand: 32 tokens; attention 4 w^2, mlp 3 w m, two products of 8 positions, unembedding
    per_token = 4 * 16**2 + 3 * 16 * 48 + 2 * 8 * 16 + 16 * 4
    assert config.workload.forward_flops() == 2 * 32 * per_token


def test_a_save_is_never_ahead_of_the_log(trained, tmp_path, monkeypatch):
    """Killed right after a checkpoint is complete: the resumed run still has every row once."""
    real = loop.save

    def killed(manager, state):
        real(manager, state)
        manager.wait_until_finished()
        if int(state.step) == 3:
            raise KeyboardInterrupt

    config = replace(TRAIN, run_dir=str(tmp_path / "run"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "save", killed)
        train_denoiser.run(config)
    train_denoiser.run(config)
    rows = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert rows == (trained[0] / "metrics.jsonl").read_text()
    ours, theirs = load_denoiser(tmp_path / "run"), load_denoiser(trained[0])
    jax.tree.map(np.testing.assert_array_equal, ours.denoise.params, theirs.denoise.params)


def test_the_last_row_is_not_lost_either(trained, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained[0] / "checkpoints", copy / "checkpoints")
    for name in ("config.json", "env.json", "metrics.jsonl"):
        shutil.copy(trained[0] / name, copy / name)
    shutil.rmtree(copy / "checkpoints" / "6")
    train_denoiser.run(replace(TRAIN, run_dir=str(copy)))
    assert (copy / "metrics.jsonl").read_text() == (trained[0] / "metrics.jsonl").read_text()
    ours, theirs = load_denoiser(copy), load_denoiser(trained[0])
    jax.tree.map(np.testing.assert_array_equal, ours.denoise.params, theirs.denoise.params)
