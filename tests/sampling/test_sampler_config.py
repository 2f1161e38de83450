"""Settings of a sampler: what a task fills in, and what is refused."""

import math

import pytest

from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.chains import Chains
from mdm_jax.tasks.sudoku import Sudoku


def test_a_task_fills_in_ids_window_and_budget():
    chains = Chains()
    config = SamplerConfig(temperature=0.7).for_task(chains)
    vocabulary = chains.vocabulary
    assert (config.mask_id, config.pad_id) == (vocabulary.mask_id, vocabulary.pad_id)
    assert (config.eos_id, config.unused) == (vocabulary.eos_id, vocabulary.unused)
    assert config.gen_length == config.budget == chains.gen_length
    assert config.temperature == 0.7 and config.for_task(chains) == config
    sudoku = SamplerConfig().for_task(Sudoku())
    assert (sudoku.gen_length, sudoku.budget, sudoku.eos_id) == (None, 16, None)


def test_what_is_given_is_kept_and_overrides_win():
    chains = Chains()
    assert SamplerConfig(budget=3).for_task(chains).budget == 3
    assert SamplerConfig(budget=3).for_task(chains, budget=4, eos_id=None).budget == 4
    assert SamplerConfig().for_task(chains, eos_id=None).eos_id is None


def test_incomplete_settings_are_refused_where_they_are_used():
    with pytest.raises(ValueError, match=r"needs mask_id, pad_id, budget: use config.for_task"):
        SamplerConfig().check(8)
    with pytest.raises(ValueError, match="needs budget"):
        SamplerConfig(4, 5).check(8)
    SamplerConfig(4, 5, 8).check(8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": 0}, "budget must be at least 1, got 0"),
        ({"temperature": -0.1}, "temperature must be at least 0, got -0.1"),
        ({"temperature": math.nan}, "temperature must be at least 0 and finite, got nan"),
        ({"temperature": math.inf}, "temperature must be finite, got inf"),
        ({"top_p": 0.0}, "top_p must be above 0, got 0.0"),
        ({"top_p": 1.5}, "top_p must be at most 1, got 1.5"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"guidance": math.inf}, "guidance must be finite, got inf"),
        ({"cache": "dual", "refresh": 0}, "refresh must be at least 1, got 0"),
        ({"refresh": 3}, "refresh 3 needs a cache: choose prefix or dual"),
    ],
)
def test_values_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SamplerConfig(**settings)
