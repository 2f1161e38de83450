"""The usual network of a policy with a price starts where sets can be learned from."""

import jax.numpy as jnp

from mdm_jax.policies.networks.adaptive_network import TYPICAL_PRICE, blank_features
from mdm_jax.runs.adaptive import network_for
from mdm_jax.tasks.chains import Chains
from mdm_jax.tasks.digits3 import Digits3
from mdm_jax.tasks.sudoku import Sudoku


def test_codes_whose_entropy_never_falls_to_zero_may_be_revealed_together():
    entropy, price = jnp.array([0.1, 1.7, 2.9]), jnp.float32(TYPICAL_PRICE)
    features = blank_features(3)._replace(entropy=entropy, price=price)
    of_digits, of_sudoku = (network_for(task).start(features) for task in (Digits3(), Sudoku()))
    assert (of_digits > 0).tolist() == [True, True, False]
    assert (of_sudoku > 0).tolist() == [True, False, False]


def test_answers_start_at_a_threshold_that_rises_as_calls_get_cheap():
    features = blank_features(3)._replace(confidence=jnp.array([0.8, 0.9, 0.96]))
    start = network_for(Chains()).start
    counts = [
        int((start(features._replace(price=jnp.float32(price))) > 0).sum())
        for price in (0.01, TYPICAL_PRICE, 0.2)
    ]
    assert counts == [1, 2, 3]
