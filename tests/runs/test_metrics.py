"""Rows of metrics: written, read back, truncated, sent to TensorBoard."""

import sys
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.errors import MdmError
from mdm_jax.runs.metrics import MetricsLog, read_metrics


def test_metrics_and_truncation(tmp_path):
    log = MetricsLog(tmp_path)
    assert log.rows() == read_metrics(tmp_path) == []
    for step in (0, 5, 5, 10):
        log.append(step, {"loss": jnp.float32(step / 2)})
    log = MetricsLog(tmp_path)  # resumed
    log.truncate_after(5)
    log.append(6, {"loss": np.float64(0.1)})
    rows = [(0, 0.0), (5, 2.5), (5, 2.5), (6, 0.1)]
    assert log.rows() == read_metrics(tmp_path) == [{"step": s, "loss": x} for s, x in rows]
    with pytest.raises(ValueError, match="'step' is given twice: 1 and 2"):
        log.append(1, {"step": 2})


def test_tensorboard_gets_the_same_values(tmp_path, monkeypatch):
    written = []

    class Writer:
        def __init__(self, directory, purge_step):
            written.append((directory, purge_step))

        def add_scalar(self, *scalar):
            written.append(scalar)

        def flush(self):
            pass

    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=Writer))
    log = MetricsLog(tmp_path, tensorboard=True)
    log.append(4, {"loss": 2.0, "kl": 0.5})
    log.append(5, {"loss": 1.0})
    directory = str(tmp_path / "tensorboard")
    assert written == [(directory, 4), ("loss", 2.0, 4), ("kl", 0.5, 4), ("loss", 1.0, 5)]


def test_tensorboard_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MdmError, match=r"pip install 'mdm_jax\[tensorboard\]'"):
        MetricsLog(tmp_path, tensorboard=True)
