"""Reads tests/recordings: numbers computed by the field's own PyTorch code, see the README there."""

import functools
import gzip
import json
from pathlib import Path

import numpy as np

RECORDINGS = Path(__file__).parent / "recordings"
EVERY = 16  # logits are recorded for every 16th token of the vocabulary


@functools.cache
def arrays(name):
    """The arrays of recordings/<name>.npz by name."""
    with np.load(RECORDINGS / f"{name}.npz") as file:
        return dict(file)


@functools.cache
def records(name):
    """The contents of recordings/<name>.json.gz."""
    return json.loads(gzip.decompress((RECORDINGS / f"{name}.json.gz").read_bytes()))


def trajectories(model, *names):
    """The recorded cases of a model, from the named samplers' code."""
    recorded = records(f"{model}/trajectories")
    return [case for name in names for case in recorded[name]]


def uncached(cases):
    """Those cases that keep no keys and values between calls."""
    return [case for case in cases if case["args"].get("cache", "none") == "none"]
