"""The comparison with PyTorch, which is no dependency."""

import sys

import pytest

from mdm_jax.errors import MdmError
from mdm_jax.profiling.torch_reference import load_torch


def test_that_pytorch_is_missing_is_said_with_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MdmError, match="PyTorch is not installed; `pip install torch`"):
        load_torch()
