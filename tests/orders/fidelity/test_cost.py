"""What learning from a replay costs, in numbers and in words."""

from mdm_jax.orders.fidelity.config import ReplayConfig
from mdm_jax.orders.fidelity.cost import fidelity_cost


def test_the_most_that_a_run_can_take():
    config = ReplayConfig(capacity=64, on_policy=0.25)
    found = fidelity_cost(
        config, batch_size=8, budget=3, window=10, steps=7, heldout_rows=5, eval_every=3
    )
    assert found.update == 8 * 3 + 2 * 10
    assert found.score == 5 * 8 * 3
    assert found.total == 7 * 44 + 3 * 120 + 5 * 10
    assert found.replay_bytes == 64 * 3 * (10 * 15 + 12)
    assert found.summary().startswith("at most 44 denoiser calls an update")
