"""Which stored generations the figures of a run show."""

import numpy as np

from mdm_jax.evals.labels import label_of
from mdm_jax.evals.plots.run_figures import call_counts, order_maps
from mdm_jax.evals.score import Row
from mdm_jax.evals.store import Generations


def row(policy, nfe, **settings):
    label = label_of(policy, settings)
    return Row(policy, settings, 1, 2, 0.5, 0.0, 1.0, nfe, 1, 4, 4.0, None, label)


def generations(index, nfe, at):
    count = len(index)
    return Generations(
        index=np.array(index),
        tokens=np.zeros((count, 2), int),
        text=["x"] * count,
        nfe=np.array(nfe),
        passes=np.array(nfe),
        seconds=np.zeros(count),
        revealed_at=np.full((count, 2), at),
    )


def test_each_kind_at_its_nearest_setting():
    table = [
        row("LearnedPolicy", 3.0, steps=3),
        row("Ancestral", 2.0, steps=2),
        row("Ancestral", 4.5, steps=5),
        row("EntropyBound", 2.5, gamma=2.0),
        row("EntropyBound", 3.1, gamma=0.1),
    ]
    stored = {r.label: generations([0, 1], [2, n], n) for n, r in enumerate(table)}
    maps = order_maps(table, stored)
    assert {name: int(map_[0, 0]) for name, map_ in maps.items()} == {
        "LearnedPolicy, 3.0 calls": 0,
        "Ancestral, 2.0 calls": 1,
        "EntropyBound, 3.1 calls": 4,
    }
    counts = call_counts(table, stored)
    assert {name: calls.tolist() for name, calls in counts.items()} == {
        "LearnedPolicy": [2, 0],
        "EntropyBound gamma=2": [2, 3],
        "EntropyBound gamma=0.1": [2, 4],
    }
