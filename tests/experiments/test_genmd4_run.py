"""One tiny run with learned masking rates: what it keeps, and generating with them."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from tiny_run import TRAIN

from experiments import sample, train_denoiser
from mdm_jax.denoisers.base import bind
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.diffusion.context_rates import ContextRates
from mdm_jax.diffusion.genmd4 import RATES, Genmd4
from mdm_jax.errors import MdmError
from mdm_jax.evals.generative import check_generative
from mdm_jax.runs import genmd4_policy
from mdm_jax.runs.denoisers import load_denoiser, load_rates
from mdm_jax.runs.directory import CONFIG, FORMAT
from mdm_jax.runs.genmd4_policy import Genmd4 as Genmd4Policy
from mdm_jax.runs.json_files import write_json
from mdm_jax.runs.policy_specs import resolve
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.sudoku import Sudoku


def test_rates_are_learned_kept_and_generated_with(tmp_path, capsys):
    run = str(tmp_path / "run")
    found = train_denoiser.train(
        replace(TRAIN, objective=Genmd4("both", start=2.0), run_dir=run, steps=3)
    )
    rates, loaded = load_rates(run), load_denoiser(run)
    assert rates.exponents.shape == (16, 4) and RATES not in loaded.denoise.params
    assert np.std(rates.exponents) > 0 and np.allclose(rates.exponents, 2.0, atol=0.1)
    assert found.likelihood.nelbo_per_token > 0
    spec = Genmd4Policy(steps=3)
    settings = SamplerConfig(temperature=1.0)
    sample.run(sample.Config(run=run, policy=spec, sampling=settings, count=1))
    assert "3 denoiser calls" in capsys.readouterr().out
    policy = resolve(spec, run, loaded.denoise, loaded.task)
    check_generative(policy, (1.0,), settings)
    with pytest.raises(MdmError, match="without --block_length"):
        check_generative(policy, (1.0,), replace(settings, block_length=4))
    with pytest.raises(MdmError, match="positions of a canvas of 16"):
        resolve(spec, run, loaded.denoise, Sudoku(side=9))


def test_rates_of_a_context_are_for_the_denoiser_whose_hidden_states_they_are_read_off(monkeypatch):
    def load(width):
        model = TransformerConfig(width=width, depth=1, heads=1)
        denoise = bind(Transformer(model, 4, None), {})
        return Genmd4Policy(steps=3).load("run", denoise, Sudoku(side=4))

    rates = ContextRates(jnp.zeros((2, 9)), 0.0)
    monkeypatch.setattr(genmd4_policy, "load_rates", lambda run: rates)
    policy = load(8)
    assert policy.rates is rates and policy.steps == 3
    check_generative(policy, (1.0,), SamplerConfig(temperature=1.0))
    with pytest.raises(MdmError, match="hidden states of its denoiser"):
        load(16)


def test_a_run_without_rates_is_refused(tmp_path):
    config = {"experiment": "train_denoiser", "format": FORMAT, "task": {}, "objective": {}}
    write_json(tmp_path / CONFIG, config)
    with pytest.raises(MdmError, match="has no masking rates"):
        load_rates(tmp_path)
