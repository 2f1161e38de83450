"""What the pictures of an order show, on orders that are known."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from mdm_jax.evals.labels import label_of
from mdm_jax.evals.plots.learned import order_maps, posterior_steps, step_counts
from mdm_jax.evals.score import Row
from mdm_jax.evals.store import Generations
from mdm_jax.orders.variational.forms.max_normalised import MaxNormalised
from mdm_jax.orders.variational.loss import init_order
from mdm_jax.orders.variational.posterior import ScorerConfig, start_scores
from mdm_jax.policies.networks.policy_network import PolicyConfig
from mdm_jax.runs.orders import order_parts
from mdm_jax.tasks.base import Batch, Vocabulary


@dataclass(frozen=True)
class Line:
    """Two prompt tokens, then five that are generated, EOS among them."""

    vocabulary = Vocabulary(size=3, eos_id=2)
    length = 7
    gen_length = 5


def known(order, spacing):
    """Networks whose scores are a static order, and nothing else."""
    scorer = ScorerConfig(width=4, depth=1, heads=1, spread=0.0, limit=1e6)
    parts = order_parts(Line(), 4, MaxNormalised(), scorer, PolicyConfig(width=4, heads=1))
    params = init_order(parts, jax.random.key(0), 7, 3)
    return parts, params | {
        "posterior": start_scores(params["posterior"], jnp.asarray(order), spacing)
    }


def test_the_posterior_reveals_when_it_should():
    parts, params = known([2, 0, 0, 3, 1], 50.0)
    tokens = np.array([[0, 1, 1, 0, 1, 0, 1], [0, 1, 1, 0, 2, 2, 2], [0, 1, 1, 0, 1, 0, 1]])
    maskable = np.tile(np.arange(7) >= 2, (3, 1))
    maskable[2, 4] = False  # the first in line is shown together with the prompt
    steps, given = posterior_steps(
        jax.random.key(1), params, Batch(tokens, maskable), parts, temperature=0.5
    )
    assert (given == ~maskable[:, 2:]).all()
    assert steps[0].tolist() == [2, 0, 0, 3, 1]
    assert steps[1].tolist() == [1, 0, 0, 0, 0]  # EOS comes first and closes what follows
    assert steps[2].tolist() == [2, 0, 0, 3, 1]


def test_the_posterior_is_averaged_over_paths():
    """The second in line comes along with probability 1/2, else it is the first of the next step."""
    parts, params = known([0, 1, 200, 300, 400], np.log(2) / 2)
    tokens = np.tile([0, 1, 1, 0, 1, 0, 1], (3, 1))
    batch = Batch(tokens, np.tile(np.arange(7) >= 2, (3, 1)))
    steps, _ = posterior_steps(jax.random.key(2), params, batch, parts, temperature=0.5)
    late = steps[:, 1]
    assert (steps[:, 0] == 0).all() and ((late > 0.25) & (late < 0.75)).all()
    assert (steps[:, 2] == 1 + late).all()
    # the budget of 4 leaves the last two one step where the second came late
    assert (steps[:, 3] == 2 + late).all() and (steps[:, 4] == 3).all()
    assert len(set(late)) > 1  # each sequence has paths of its own


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


def test_only_what_the_table_counts_is_drawn():
    found = generations([0, 1, 4], [2, 3, 9], 1).first(4)
    assert found.index.tolist() == [0, 1] and found.nfe.tolist() == [2, 3]


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
    counts = step_counts(table, stored)
    assert {name: calls.tolist() for name, calls in counts.items()} == {
        "LearnedPolicy": [2, 0],
        "EntropyBound gamma=2": [2, 3],
        "EntropyBound gamma=0.1": [2, 4],
    }
