"""Windows of rewards."""

import pytest

from mdm_jax.rl.monitor import collapsed, is_best, window_means


def test_only_full_windows_count():
    assert window_means([1.0, 3.0, 5.0, 7.0, 100.0], 2) == [2.0, 6.0]
    assert window_means([1.0], 2) == []


def test_the_best_is_better_than_all_before():
    assert not is_best([])
    assert is_best([-3.0])
    assert is_best([1.0, 0.5, 1.1])
    assert not is_best([1.0, 0.5, 1.0])


@pytest.mark.parametrize(
    "means, gone", [([], False), ([0.5, 0.2], False), ([0.5, 0.09], True), ([-1.0, -2.0], False)]
)
def test_a_collapse_is_a_loss_of_most_of_the_best(means, gone):
    assert collapsed(means, 0.8) is gone
