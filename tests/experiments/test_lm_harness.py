"""The model class of lm-evaluation-harness, with a stand-in for the harness itself."""

import importlib
import re
import sys
import types

import jax
import jax.numpy as jnp
import pytest
from published_files import EOS, write_checkpoint

from experiments import _cli as cli
from mdm_jax.diffusion.elbo import token_nll
from mdm_jax.evals.text_model import cut
from mdm_jax.policies.heuristics import ConfidenceThreshold, EntropyBound, TopConfidence


class Request:
    def __init__(self, *args):
        self.args = args


@pytest.fixture(scope="module")
def harness():
    """experiments.lm_harness, and what was registered and run in the stand-in."""
    names = ("lm_eval", "lm_eval.api", "lm_eval.api.model", "lm_eval.api.registry")
    modules = {name: types.ModuleType(name) for name in names}
    seen = types.SimpleNamespace(registered={}, run=[])

    def register_model(name):
        return lambda cls: seen.registered.setdefault(name, cls)

    def simple_evaluate(**arguments):
        seen.run.append(arguments)
        return {"results": {}}

    modules["lm_eval.api.model"].LM = type("LM", (), {})
    modules["lm_eval.api.registry"].register_model = register_model
    modules["lm_eval"].simple_evaluate = simple_evaluate
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        seen.module = importlib.import_module("experiments.lm_harness")
        yield seen
        for name in ("experiments.lm_harness", "mdm_jax.evals.lm_harness"):
            del sys.modules[name]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return str(write_checkpoint(tmp_path_factory.mktemp("files") / "tiny"))


@pytest.fixture(scope="module")
def model(harness, checkpoint):
    words = f"denoiser={checkpoint},policy=top-confidence,policy.steps=4,gen_length=16,draws=8"
    return harness.registered["mdm_jax"].create_from_arg_string(words, {"batch_size": "3"})


def test_model_arguments_are_the_flags(harness, checkpoint, model):
    assert model.config.policy == TopConfidence(4) and model.config.batch_size == 3
    sampler = model.model.config
    assert (sampler.gen_length, sampler.eos_id) == (16, EOS)
    given = {"denoiser": checkpoint, "policy": "entropy-bound", "policy.gamma": 0.5}
    other = type(model).create_from_arg_obj(given, {"batch_size": "auto", "device": None})
    assert other.config.policy == EntropyBound(0.5) and other.config.batch_size == 8


def test_responses_end_at_eos_or_the_first_stop_text(model):
    asked = [f"Question {'x' * i}" for i in (3, 0, 1, 2)]
    whole = model.generate_until([Request(text, {}) for text in asked])
    assert len(whole) == 4 and len(set(whole)) > 1
    alone = model.generate_until([Request(asked[0], {"until": []})])
    assert alone[0] == whole[0]  # whatever else is in the batch
    stops = [text[3] for text in whole]
    short = model.generate_until(
        [Request(text, {"until": [stop]}) for text, stop in zip(asked, stops, strict=True)]
    )
    assert short == [text.partition(stop)[0] for text, stop in zip(whole, stops, strict=True)]
    assert cut("a STOP b END", ["END", "STOP"]) == "a "
    assert cut("a STOP b", "STOP") == "a " and cut("a", [""]) == "a"


def test_one_token_has_its_exact_log_likelihood(model):
    """With one position to mask there is one mask, and the bound is the likelihood."""
    (bound, greedy), (blank, _) = model.loglikelihood([Request("a", "b"), Request("a ", "b")])
    tokenizer, denoise = model.model.tokenizer, model.model.denoise
    ids = jnp.array(tokenizer.encode(["ab"])[0])
    canvas = ids.at[1].set(tokenizer.vocabulary.mask_id)
    logits = denoise(canvas, jnp.ones(2, bool))
    assert bound == pytest.approx(-float(token_nll(logits, ids)[1]), abs=1e-4) and not greedy
    assert blank < bound  # " b" has two tokens


def test_what_does_not_fit_loses_its_beginning(model, monkeypatch):
    """A context; a text of its own is cut into pieces."""
    monkeypatch.setattr(model.model.tokenizer, "max_length", 20)
    short, (until,) = "xyz?", ({},)
    with pytest.warns(UserWarning, match="1 of 2 contexts lose their beginning: up to 34 tokens"):
        long, alone = model.generate_until(
            [Request("a" * 30 + short, until), Request(short, until)]
        )
    assert long == alone
    asked = [Request("b" * 30 + "c" * 18, "d"), Request("c" * 18, "d" * 2)]
    with pytest.warns(UserWarning, match="1 of 2 contexts lose"):
        cut = model.loglikelihood(asked)
    assert cut == model.loglikelihood([Request("b" + "c" * 18, "d"), asked[1]])
    whole, *parts = model.loglikelihood_rolling([Request("e" * 45)] + 2 * [Request("e" * 20)])
    assert whole < sum(parts)


def test_the_flags_of_other_samplers(harness, checkpoint):
    create = harness.registered["mdm_jax"].create_from_arg_string
    settings = create(f"denoiser={checkpoint},threshold=0.7,gen_length=16").config
    assert settings.policy == ConfidenceThreshold(0.7) and settings.gen_length == 16
    given = f"denoiser={checkpoint},alg=confidence_threshold,steps=4,gen_length=16"
    assert create(given).config.sampling.budget == 20


def test_the_bound_of_a_text_is_that_of_a_continuation_of_nothing(model):
    texts = ["abc", "de"]
    rolling = model.loglikelihood_rolling([Request(text) for text in texts])
    pairs = model.loglikelihood([Request("", text) for text in texts])
    assert rolling == [bound for bound, _ in pairs] and max(rolling) < 0


def test_chats_and_names(model, monkeypatch):
    text = model.apply_chat_template([{"role": "user", "content": "Why?"}])
    assert text.startswith("<|startoftext|>") and "Why?" in text
    name = model.tokenizer_name  # part of the name of a file
    assert re.fullmatch(r"tiny-[0-9a-f]{12}", name)
    monkeypatch.setattr(model.model.tokenizer, "template", "another")
    assert model.tokenizer_name != name


def test_the_command_line_runs_the_harness(harness, checkpoint):
    module = harness.module
    config = module.Config(denoiser=checkpoint, tasks=("gsm8k",), num_fewshot=5, limit=2, chat=True)
    with jax.debug_key_reuse(True):
        module.run(config)
    (arguments,) = harness.run
    assert isinstance(arguments.pop("model"), harness.registered["mdm_jax"])
    expected = {"tasks": ["gsm8k"], "num_fewshot": 5, "limit": 2, "apply_chat_template": True}
    assert arguments == expected | {"confirm_run_unsafe_code": False}
    with pytest.raises(ValueError, match="say what to run: --tasks"):
        module.run(module.Config(denoiser=checkpoint))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "Missing"),
        ("--denoiser DIR", "say what to run: --tasks"),
        ("--denoiser /gone --tasks x", "/gone"),
        ("--denoiser DIR --tasks x --limit 0", "limit must be at least 1"),
        ("--denoiser DIR --tasks x --num_fewshot -1", "num_fewshot must be at least 0"),
        ("--denoiser DIR --tasks x --batch_size 0", "batch_size must be at least 1"),
        ("--denoiser DIR --tasks x --draws 0", "draws must be at least 1"),
        ("--denoiser DIR --tasks x --seed -1", "seed must be at least 0"),
        ("--denoiser DIR --tasks x --gen_length 1", "gen_length 1 must be at least 2"),
        ("--denoiser DIR --tasks x --gen_length 5000", "exceeds the 4096 of the checkpoint"),
        ("--denoiser DIR --tasks x --gen_length 16 --block_length 5", "does not divide"),
        ("--denoiser DIR --tasks x --temperature nan", "temperature must be"),
        ("--denoiser DIR --tasks x --threshold nan", "threshold must be finite"),
        ("--denoiser DIR --tasks x --alg entropy", "--alg entropy needs --steps"),
        ("--denoiser DIR --tasks x --limit 1 policy:best", "policy:best"),
    ],
)
def test_bad_input_is_refused(harness, checkpoint, capsys, words, expected):
    config, run = harness.module.Config, harness.module.run
    words = words.replace("DIR", checkpoint).split()
    with pytest.raises(SystemExit) as caught:
        cli.main(config, run, "doc", words=words)
    shown = capsys.readouterr().err
    assert caught.value.code == 2 and shown.count("\n") == 1 and expected in shown


def test_without_the_harness_it_says_what_is_missing(monkeypatch):
    monkeypatch.delitem(sys.modules, "experiments.lm_harness", raising=False)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(SystemExit, match=r"not installed: pip install -e '\.\[harness\]'"):
        importlib.import_module("experiments.lm_harness")
