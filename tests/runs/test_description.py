"""Configurations as JSON, and back."""

import dataclasses
import enum
import json
import math
import os
import pathlib
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.runs.description import describe, from_json


@dataclasses.dataclass(frozen=True)
class Threshold:
    threshold: Any = 0.9


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 10
    policy: Any = Threshold()
    name: str = "sudoku"


class Pair(NamedTuple):
    left: int
    right: tuple


class Colour(enum.Enum):
    RED = 1


def test_describe_is_plain_json():
    got = describe({
        "config": Config(policy=Threshold(jnp.float32(0.5))),
        "pair": Pair(np.int64(3), (True, None)),
        "array": np.arange(4.0),
        "set": {3, 1, 2},
        "path": pathlib.Path("a") / "b",
        "enum": Colour.RED,
        "dtype": np.dtype("float32"),
        "function": math.comb,
        "class": jnp.bfloat16,
        "module": nn.Dropout(0.5),
        7: [np.bool_(False), jax.random.key(1)],
    })  # fmt: skip
    assert json.loads(json.dumps(got)) == got
    policy = {"kind": "Threshold", "threshold": 0.5}
    assert got["config"] == {"kind": "Config", "steps": 10, "policy": policy, "name": "sudoku"}
    assert got["pair"] == {"kind": "Pair", "left": 3, "right": [True, None]}
    assert got["array"] == [0.0, 1.0, 2.0, 3.0]
    assert got["set"] == [1, 2, 3]
    assert got["path"] == os.path.join("a", "b")
    assert (got["enum"], got["dtype"], got["function"]) == ("RED", "float32", "math.comb")
    assert got["module"]["kind"] == "Dropout"
    assert got["module"]["rate"] == 0.5
    assert "parent" not in got["module"]
    assert got["7"] == [False, {"kind": "key<fry>", "data": [0, 1]}]


def test_describe_tells_large_arrays_apart():
    weights = np.zeros((5, 7), np.float32)
    one, same, other = describe(weights), describe(jnp.zeros((5, 7))), describe(weights + 1)
    assert one == same
    assert one["sha256"] != other["sha256"]
    assert (one["shape"], one["dtype"]) == ([5, 7], "float32")


def test_describe_refuses_what_it_cannot_say():
    with pytest.raises(ValueError, match="of type object"):
        describe({"a": [object()]})

    @dataclasses.dataclass
    class Named:
        kind: str = "x"

    with pytest.raises(ValueError, match="Named is called 'kind'"):
        describe(Named())


def test_a_dataclass_is_read_back_by_its_name():
    described = json.loads(json.dumps(describe(Threshold(0.25))))
    assert from_json(described, Config, Threshold) == Threshold(0.25)
