"""The cost of an update from shapes: against the program that it is, and the preset of 3 billion."""

from dataclasses import replace

from experiments import _cli as cli
from experiments.training_cost import PRESETS, Config, described, run
from mdm_jax.denoisers.transformer import TransformerConfig
from mdm_jax.profiling import training_cost as measured
from mdm_jax.profiling.training_cost import TrainingShape


def test_a_small_network():
    """Parameters by hand; FLOPs of three blocks follow from networks of one and two, exactly; what is
    compiled has the state and the batch for arguments.
    """
    model = TransformerConfig(width=16, depth=3, heads=2)
    config = Config(model=model, vocab=5, length=6, batch_size=2, micro_batches=2)
    cost, memory = run(config)
    matrices, norms = 4 * 16**2 + 3 * 16 * 48, 2 * 16 + 2 * 8
    assert cost.embeddings == (5 + 2 + 5) * 16
    assert cost.parameters == cost.embeddings + 3 * (matrices + norms) + 16
    assert cost.state_bytes >= 4 * 4 * cost.parameters
    assert cost.flops == 2 * measured._sequence_flops(cli.select(TrainingShape, config), 3)
    batch, key = 2 * 6 * (4 + 1), 8
    assert memory.arguments == cost.state_bytes + batch + key and memory.temporaries > 0


def test_the_preset_has_three_billion_parameters():
    """And 6 FLOPs for each parameter and token, 8 with recomputation; nothing is allocated."""
    config = PRESETS["3b"]
    cost, memory = run(replace(config, compile=False))
    assert memory is None and abs(cost.parameters / 3e9 - 1) < 0.02
    used = cost.parameters - cost.embeddings / 2  # an embedding is a look-up
    per_token = cost.flops / (config.batch_size * config.length)
    assert 8 * used < per_token < 9.5 * used
    assert "6.4e+12 tokens" in described(config, cost)[-1]
