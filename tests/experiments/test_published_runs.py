"""Published checkpoints in every experiment: evaluated, sampled, fine-tuned with an order, exported."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from published_files import EOS, MASK, write_checkpoint
from tiny_run import ADAPTIVE, LEARN, REWARDED, contents

from experiments import (
    evaluate,
    export,
    frontier,
    learn_order,
    learn_policy,
    learn_variational_order,
    sample,
)
from experiments._cli import parse
from mdm_jax.checksums import SUMS
from mdm_jax.denoisers.pretrained import checkpoints as pretrained
from mdm_jax.errors import MdmError
from mdm_jax.evals.store import SampleStore
from mdm_jax.policies.heuristics import ConfidenceThreshold, TopConfidence
from mdm_jax.policies.networks.adaptive_network import AdaptiveConfig
from mdm_jax.runs import published
from mdm_jax.runs.denoisers import load_denoiser
from mdm_jax.runs.identity import results_home
from mdm_jax.runs.policies import load_policy
from mdm_jax.runs.policy_specs import Learned
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.prompted import FreePrompt, HumanEval, PromptedGsm8k, PromptedMath


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("hub") / "tiny")


@pytest.fixture(scope="module")
def task(checkpoint, tmp_path_factory):
    """Short problems, in plain text."""
    data = tmp_path_factory.mktemp("problems")
    lines = [
        json.dumps({"problem": f"{i}+1?", "solution": f"\\boxed{{{i + 1}}}"}) for i in range(9)
    ]
    for name in ("train", "test"):
        (data / f"{name}.jsonl").write_text("\n".join(lines))
    settings = {"data_dir": str(data), "chat": False, "instruction": "Sum:"}
    return PromptedMath(checkpoint=str(checkpoint), gen_length=16, **settings)


@pytest.fixture
def config(checkpoint, task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return evaluate.Config(run=str(checkpoint), task=task, batch_size=2, policy=TopConfidence(4))


def test_evaluate_stores_responses_and_their_speed(config, checkpoint, capsys):
    before = contents(checkpoint)
    outcome = evaluate.run(config)
    told = capsys.readouterr().out
    assert outcome.row.total == 9 and outcome.row.nfe == 4
    assert "generating 9/9, " in told and "/s, 0:00:00 left" in told
    assert "% of the measured peak" in told and "tokens before EOS per sequence" in told
    assert contents(checkpoint) == before  # checkpoints are only read
    directory = results_home(checkpoint) / "evaluate-math-test-0"
    rows = [json.loads(line) for line in (directory / "samples.jsonl").open()]
    assert [row["index"] for row in rows] == list(range(9))
    for i, row in enumerate(rows):
        assert row["prompt"] == f"Sum:\n\n{i}+1?" and row["reference"] == str(i + 1)
        assert row["tokens"].count(MASK) == 0 and row["nfe"] == 4 and row["answer"] is None
        response = row["tokens"][len(row["prompt"]) :][:16]
        kept = response[: response.index(EOS)] if EOS in response else response
        assert row["text"] == config.task.tokenizer.decode(kept)
    measured = json.loads((directory / "rows.jsonl").read_text())
    assert measured["canvas_tokens_per_call"] == 4 and 0 < measured["share_of_peak"] < 1
    assert measured["useful_tokens_per_second"] <= measured["canvas_tokens_per_second"]


def test_evaluate_resumes_for_the_same_weights_alone(config, checkpoint, tmp_path):
    whole = evaluate.run(replace(config, out_dir="whole"))
    evaluate.run(replace(config, out_dir="parts", examples=5))
    parts = evaluate.run(replace(config, out_dir="parts"))
    stores = [SampleStore(tmp_path / name / "samples.jsonl") for name in ("whole", "parts")]
    one, other = (store.read(store.settings()[0]) for store in stores)
    np.testing.assert_array_equal(one.tokens, other.tokens)
    assert one.text == other.text and whole.correct.tolist() == parts.correct.tolist()
    moved = shutil.copytree(checkpoint, tmp_path / "moved")
    there = replace(config, run=str(moved), task=replace(config.task, checkpoint=str(moved)))
    evaluate.run(replace(there, out_dir="parts"))  # the same weights elsewhere
    retrained = write_checkpoint(tmp_path / "retrained", seed=1)
    with pytest.raises(ValueError, match=r"holds a run with another configuration .*weights"):
        evaluate.run(replace(config, run=str(retrained), out_dir="parts"))


def test_splitting_matrices_over_devices_changes_no_token(config, tmp_path):
    found = []
    for tensor in (1, 2):
        loading = published.Loading(tensor=tensor)
        evaluate.run(replace(config, examples=2, out_dir=f"{tensor}", loading=loading))
        store = SampleStore(tmp_path / str(tensor) / "samples.jsonl")
        found.append(store.read(store.settings()[0]).tokens)
    np.testing.assert_array_equal(*found)
    with pytest.raises(ValueError, match="tensor must be between 1 and the 4 devices, got 5"):
        published.Loading(tensor=5)


def test_a_cache_that_is_always_refreshed_changes_no_token(config, tmp_path):
    found = []
    for name, cache in {"without": {}, "with": {"cache": "dual", "refresh": 1}}.items():
        sampling = SamplerConfig(block_length=8, **cache)
        evaluate.run(replace(config, examples=2, out_dir=name, sampling=sampling))
        store = SampleStore(tmp_path / name / "samples.jsonl")
        (label,) = store.settings()
        assert ("cache=dual refresh=1" in label) == bool(cache)
        found.append(store.read(label).tokens)
    np.testing.assert_array_equal(*found)
    with pytest.raises(ValueError, match="refresh 3 needs a cache: choose prefix or dual"):
        SamplerConfig(refresh=3)


def test_programs_are_generated_but_scored_only_on_request(config, checkpoint, tmp_path, capsys):
    exercise = {"task_id": "T/0", "prompt": "def f():\n", "canonical_solution": "    return 1\n"}
    exercise |= {"test": "def check(f):\n    assert f() == 1\n", "entry_point": "f"}
    (tmp_path / "HumanEval.jsonl").write_text(json.dumps(exercise))
    task = HumanEval(checkpoint=str(checkpoint), data_dir=str(tmp_path), chat=False, gen_length=16)
    assert evaluate.run(replace(config, task=task, batch_size=1)) is None
    assert "not scored" in capsys.readouterr().out
    judged = evaluate.run(replace(config, task=replace(task, execute=True), batch_size=1))
    assert (judged.row.correct, judged.row.total) == (0, 1)


def test_sample_answers_a_prompt(checkpoint, capsys):
    task = FreePrompt(checkpoint=str(checkpoint), gen_length=16)
    config = sample.Config(run=str(checkpoint), prompt="Why?", task=task, policy=TopConfidence(4))
    (text,) = sample.run(config)
    told = capsys.readouterr().out
    assert "Why?" in told and "prompt 0: 4 denoiser calls" in told and "Why?" in text
    other = PromptedMath(checkpoint=str(checkpoint), data_dir="x")
    with pytest.raises(ValueError, match="--prompt is only for published checkpoints"):
        sample.run(replace(config, task=other))


def test_frontier_sweeps_a_checkpoint(config, checkpoint, tmp_path):
    knobs = {"steps": (), "factors": (), "gammas": (), "thresholds": (0.1, 0.9)}
    rows = frontier.run(
        frontier.Config(run=str(checkpoint), task=config.task, examples=2, batch_size=2, **knobs)
    )
    assert [row.total for row in rows] == [2, 2]
    assert (tmp_path / "runs/tiny/frontier-math-test-0/frontier.png").exists()


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A checkpoint in bfloat16."""
    return write_checkpoint(tmp_path_factory.mktemp("hub") / "half", dtype="bfloat16")


@pytest.fixture(scope="module")
def learned(half, task, tmp_path_factory):
    """An order learned jointly with a checkpoint: search, updates, bound and comparison."""
    config = replace(
        LEARN,
        task=replace(task, checkpoint=str(half)),
        denoiser=str(half),
        joint=True,
        steps=2,
        examples=2,
        run_dir=str(tmp_path_factory.mktemp("orders") / "order"),
    )
    with jax.debug_key_reuse(True):
        return config, learn_variational_order.run(config)


def test_an_order_is_learned_on_a_checkpoint_and_used(learned, config, tmp_path):
    home, (ours, *others) = learned[0].run_dir, learned[1]
    start, bound = (
        json.loads((Path(home) / name).read_text()) for name in ("start.json", "bound.json")
    )
    assert len(start["order"]) == 16 and np.isfinite(start["nll"])
    assert np.isclose(bound["nelbo"], bound["token_nll"] + bound["kl"]) and bound["steps_used"] <= 3
    assert ours.row.policy == "LearnedPolicy" and ours.row.nfe_max <= 3
    assert {row.row.total for row in others} == {2} and len(others) > 5
    policy = load_policy(home, config.task)
    assert policy.steps == 3
    outcome = evaluate.run(replace(config, examples=2, policy=Learned(home)))
    assert outcome.row.nfe_max <= 3
    changed = replace(config.task, gen_length=18)
    with pytest.raises(ValueError, match=r"learned the order of math .16 of .* not of math .18"):
        evaluate.run(replace(config, task=changed, policy=Learned(home), out_dir="x"))


def test_an_order_that_adapts_is_learned_on_a_checkpoint_in_blocks(
    checkpoint, task, config, tmp_path, capsys
):
    """And is used in other blocks, with a cache, on responses of another length."""
    network = AdaptiveConfig(width=8, heads=2, canvas=0)
    settings = replace(ADAPTIVE, task=task, denoiser=str(checkpoint), network=network, steps=2)
    home = str(tmp_path / "order")
    with jax.debug_key_reuse(True):
        policy, _ = learn_order.learn(
            replace(settings, budget=6, block_length=8, pair_costs=2, run_dir=home)
        )
    told = " ".join(capsys.readouterr().out.split())
    assert "at most 112 denoiser calls an update, on one canvas each" in told
    assert policy.network.any_length
    longer = replace(config.task, gen_length=18)
    sampling = SamplerConfig(block_length=6, cache="dual")
    used = replace(config, task=longer, policy=Learned(home, price=0.5), sampling=sampling)
    outcome = evaluate.run(replace(used, examples=2, out_dir="adaptive"))
    assert 3 <= outcome.row.nfe_min <= outcome.row.nfe_max <= 18


def test_a_policy_learns_from_rewards_on_a_checkpoint(checkpoint, task, tmp_path, capsys):
    """Rollouts are verified on the host, between two programs."""
    home = tmp_path / "policy"
    settings = {"steps": 2, "pool": 4, "examples": 2, "eval_batch_size": None}
    config = replace(REWARDED, task=task, denoiser=str(checkpoint), run_dir=str(home), **settings)
    with jax.debug_key_reuse(True):
        ours, *others = learn_policy.run(config)
    assert ours.row.policy == "LearnedPolicy" and 1 <= ours.row.nfe_min <= ours.row.nfe_max <= 16
    assert len(others) > 5 and {row.row.total for row in others} == {2}
    rewards = [json.loads(line)["reward"] for line in (home / "metrics.jsonl").open()]
    assert len(rewards) == 2 and np.isfinite(rewards).all()
    told = " ".join(capsys.readouterr().out.split())
    assert (
        "at most 512 denoiser calls, on one canvas each: 32 rollouts of 16 calls or fewer" in told
    )


def test_a_jointly_trained_denoiser_is_exported_as_it_was_published(learned, half, tmp_path):
    home, out = learned[0].run_dir, tmp_path / "out"
    tuned, trained = (
        load_denoiser(home).denoise,
        learn_variational_order.learn(learned[0]).params["denoiser"],
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(trained)} == {np.dtype("float32")}
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(tuned.params)} == {"bfloat16"}
    export.run(export.Config(run=home, out=str(out)))
    copied = {path.name for path in half.iterdir()}
    assert {path.name for path in out.iterdir()} == copied | {SUMS}
    again = pretrained.load(out).denoise.params
    for one, other in zip(*map(jax.tree.leaves, (again, tuned.params)), strict=True):
        np.testing.assert_array_equal(one, other)
    first = pretrained.load(half).denoise.params
    assert not np.array_equal(again["head"], first["head"])
    with pytest.raises(ValueError, match="is not empty"):
        export.run(export.Config(run=home, out=str(out)))


def test_a_checkpoint_is_written_in_another_type(checkpoint, tmp_path):
    out = tmp_path / "half"
    loading = published.Loading(dtype="bfloat16")
    export.run(export.Config(run=str(checkpoint), out=str(out), loading=loading))
    stored = pretrained.load(out).denoise.params["head"]
    original = pretrained.load(checkpoint).denoise.params["head"]
    np.testing.assert_array_equal(stored, original.astype("bfloat16"))


def test_a_damaged_export_is_not_loaded(checkpoint, tmp_path):
    out = tmp_path / "out"
    export.run(export.Config(run=str(checkpoint), out=str(out)))
    weights = bytearray((out / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (out / "model.safetensors").write_bytes(weights)
    with pytest.raises(
        MdmError, match=r"model\.safetensors is damaged: it is not what was written"
    ):
        published.load_checkpoint(out, published.Loading())


def test_an_export_that_fails_leaves_nothing(checkpoint, tmp_path, monkeypatch):
    """A full disk; then there is room again."""
    config = export.Config(run=str(checkpoint), out=str(tmp_path / "out"))

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(ValueError, match=r"out cannot be written"):
        patch.setattr("mdm_jax.runs.export.copy_beside_weights", full)
        export.run(config)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".out.partial").mkdir()  # of an export that was killed
    (tmp_path / ".out.partial" / "model.safetensors").write_text("half")
    export.run(config)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    written = contents(tmp_path / "out")
    assert written.pop(SUMS) and written == contents(checkpoint)


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"denoiser": None}, "is no published checkpoint"),
        (
            {"denoiser": "/nowhere", "joint": True},
            "is no published checkpoint: there is no layout to write",
        ),
        ({"joint": False}, r"did not fine-tune its denoiser \(--joint\): it is still"),
    ],
)
def test_what_cannot_be_exported(checkpoint, tmp_path, described, message):
    config = {
        "format": 2,
        "experiment": "learn_variational_order",
        "task": {},
        "denoiser": str(checkpoint),
        **described,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        export.run(export.Config(run=str(tmp_path), out=str(tmp_path / "x")))
    assert not (tmp_path / "x").exists()


def test_settings_of_the_command_line(checkpoint):
    words = f"--denoiser {checkpoint} --task gsm8k --data_dir D policy:confidence-threshold"
    words += " --policy.threshold 0.8 --block_length 32 --gen_length 64 --dtype bfloat16"
    config = parse(evaluate.Config, words.split())
    assert config.task == PromptedGsm8k(checkpoint=str(checkpoint), gen_length=64)
    assert config.policy == ConfidenceThreshold(0.8) and config.loading.dtype == "bfloat16"
    config = parse(sample.Config, ["--denoiser", str(checkpoint), "--prompt", "Why?"])
    assert config.task == FreePrompt(checkpoint=str(checkpoint)) and config.prompt == "Why?"
    words = f"--denoiser {checkpoint} --task math --task.no-chat --budget 3"
    config = parse(learn_variational_order.Config, words.split())
    assert config.task == PromptedMath(checkpoint=str(checkpoint), chat=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "is a published checkpoint: choose its prompts by --task, one of gsm8k, math"),
        ("--task sudoku", "one of gsm8k, math, humaneval, prompt, not 'sudoku'"),
    ],
)
def test_a_checkpoint_needs_a_task_of_its_own(checkpoint, words, message):
    with pytest.raises(ValueError, match=message):
        parse(evaluate.Config, ["--denoiser", str(checkpoint), *words.split()])


def test_files_that_are_missing(config, checkpoint, tmp_path):
    def without(*names):
        broken = tmp_path / "broken"
        shutil.rmtree(broken, ignore_errors=True)
        shutil.copytree(checkpoint, broken, ignore=shutil.ignore_patterns(*names))
        task = replace(config.task, checkpoint=str(broken))
        return replace(config, run=str(broken), task=task, out_dir="x")

    with pytest.raises(ValueError, match=r"holds no \*\.safetensors"):
        evaluate.run(without("*.safetensors"))
    with pytest.raises(ValueError, match=r"has no tokenizer\.json"):
        evaluate.run(without("tokenizer.json"))
    with pytest.raises(ValueError, match=r"has no config\.json"):
        evaluate.run(without("config.json"))
    with pytest.raises(ValueError, match="it is for another denoiser"):
        load_denoiser(str(checkpoint), replace(learn_variational_order.Config().task))
    with pytest.raises(ValueError, match="say what to ask it"):
        load_denoiser(str(checkpoint))
    assert not (tmp_path / "x").exists()
