"""A setting for a wanted number of calls, or a wanted accuracy."""

import pytest

from mdm_jax.errors import MdmError
from mdm_jax.evals.tuning import Reached, setting_for

SETTINGS = [Reached(*one) for one in ((0.95, 6.0), (0.9, 3.4), (0.92, 4.0), (0.5, 2.0))]


def test_the_most_accurate_that_is_cheap_enough_or_the_cheapest_that_is_accurate_enough():
    assert setting_for(SETTINGS, calls=4.5) == 2
    assert setting_for(SETTINGS, calls=3.9) == 1
    assert setting_for(SETTINGS, accuracy=0.9) == 1
    assert setting_for(SETTINGS, accuracy=0.93) == 0


def test_what_no_setting_reaches_is_not_chosen():
    assert setting_for(SETTINGS, calls=1.5) is None
    assert setting_for(SETTINGS, accuracy=0.99) is None
    with pytest.raises(MdmError, match="by its calls or by its accuracy"):
        setting_for(SETTINGS)
