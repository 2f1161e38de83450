"""One tiny run with learned masking rates: what it keeps, and generating with them."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_run import TRAIN

from experiments import sample, train_denoiser
from mdm_jax.diffusion.genmd4 import RATES, Genmd4
from mdm_jax.errors import MdmError
from mdm_jax.evals.generative import check_generative
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


def test_a_run_without_rates_is_refused(tmp_path):
    config = {"experiment": "train_denoiser", "format": FORMAT, "task": {}, "objective": {}}
    write_json(tmp_path / CONFIG, config)
    with pytest.raises(MdmError, match="has no masking rates"):
        load_rates(tmp_path)
