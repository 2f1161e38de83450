"""The distillation law: found again, and with the gap between teacher and student."""

import numpy as np
import pytest

from mdm_jax.errors import MdmError
from mdm_jax.laws.distillation import Distillation, fit_distillation, supervised_loss

# as reported for arXiv:2502.08606
TRUE = Distillation(2.549, 522.61, 0.09, 1.315, 2243.0, 0.321, 24181.0, 0.637, 0.764)
SUPERVISED = Distillation(A=3355.0, a=0.408, B=18186.0, b=0.431, g=0.452)


def students(count, seed=0):
    rng = np.random.default_rng(seed)
    ranges = {"parameters": (1e8, 1e10), "tokens": (1e9, 1e12), "teacher_loss": (1.7, 2.8)}
    columns = {n: np.exp(rng.uniform(*np.log(ends), count)) for n, ends in ranges.items()}
    columns["supervised_loss"] = supervised_loss(SUPERVISED, 1.22, columns)
    return columns | {"loss": TRUE.predict(columns)}


def test_the_law_is_found():
    law, objective = fit_distillation(students(60), starts=2)
    beyond = students(200, seed=1)
    assert objective < 1e-9
    assert law.predict(beyond) == pytest.approx(beyond["loss"], rel=1e-4)


def test_a_better_teacher_helps_and_then_harms():
    teachers = np.linspace(1.6, 3.5, 100)
    same = {"parameters": np.full(100, 3e8), "tokens": np.full(100, 1e10)}
    same |= {"teacher_loss": teachers}
    same["supervised_loss"] = supervised_loss(SUPERVISED, 1.22, same)
    best = TRUE.predict(same).argmin()
    assert 0 < best < 99 and teachers[best] < same["supervised_loss"][0]


def test_more_of_everything_lowers_the_supervised_loss():
    sizes, tokens = np.meshgrid(np.geomspace(1e7, 1e10, 5), np.geomspace(1e8, 1e12, 5))
    columns = {"parameters": sizes.ravel(), "tokens": tokens.ravel()}
    loss = supervised_loss(SUPERVISED, 1.22, columns).reshape(5, 5)
    assert (np.diff(loss, axis=0) < 0).all() and (np.diff(loss, axis=1) < 0).all()
    assert loss.min() > 1.22


def test_nine_parameters_need_ten_runs():
    with pytest.raises(MdmError, match="9 runs are too few"):
        fit_distillation(students(9))
