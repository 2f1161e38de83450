"""Temperatures as a knob, and the entropy and perplexity of what they generate, against closed forms."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from evaluation_world import CONFIG, EXAMPLES, ORACLE, TASK, evaluator

from mdm_jax.errors import MdmError
from mdm_jax.evals.generative import (
    Reference,
    check_generative,
    generative_frontier,
    token_entropy,
)
from mdm_jax.evals.plots.generative import generative_figure
from mdm_jax.policies.heuristics import LeftToRight
from mdm_jax.policies.remasking.p2 import P2
from mdm_jax.policies.tempered import Tempered
from mdm_jax.tasks.sudoku.task import all_grids

ORDER = LeftToRight(16)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The puzzles one position at a time under exact conditionals, at two temperatures."""
    found = evaluator(tmp_path_factory.mktemp("swept"))
    reference = Reference(ORACLE, jax.random.key(1), 64)
    return found, generative_frontier(found, ORDER, (1.0, 2.0), reference)


def test_exact_conditionals_one_by_one_have_the_entropy_of_the_solutions(swept):
    """-log q of every generation is the log of the number of grids that fit its prompt."""
    _, (point, _) = swept
    blank, grids = TASK.vocabulary.mask_id, all_grids()
    fits = [
        ((canvas == blank) | (grids == canvas)).all(axis=1).sum() for canvas in EXAMPLES.canvases
    ]
    positions = (EXAMPLES.canvases == blank).sum(axis=1).mean()
    assert point.row.accuracy == 1.0 and max(fits) > 1
    assert point.entropy == pytest.approx(np.log(fits).mean() / positions, abs=1e-5)
    assert point.entropy_low < point.entropy < point.entropy_high
    # the reference is the sampler's own distribution: the divergence between the two is 0
    assert np.log(point.perplexity) == pytest.approx(point.entropy, abs=0.06)
    assert point.token_entropy > 1.2


def test_a_temperature_is_a_leaf_and_generates_what_the_setting_generates(swept, tmp_path):
    found, points = swept
    setting = replace(found, config=replace(CONFIG, temperature=2.0))
    alone = setting.evaluate(ORDER)
    swept_tokens = found.store.read(points[1].row.label).tokens
    np.testing.assert_array_equal(found.store.read(alone.row.label).tokens, swept_tokens)
    assert points[1].row.settings["token_temperature"] == 2.0
    leaves = jax.tree.leaves(Tempered(ORDER, 0.7))
    assert 0.7 in leaves and len(leaves) == len(jax.tree.leaves(ORDER)) + 1


def test_figure_and_refusals(swept):
    _, points = swept
    figure = generative_figure({"reading order": points})
    assert figure.axes[0].get_legend_handles_labels()[1] == ["reading order"]
    with pytest.raises(MdmError, match="P2 re-masks"):
        check_generative(P2(4), (1.0,), CONFIG)
    with pytest.raises(MdmError, match="give --temperatures"):
        check_generative(ORDER, (), CONFIG)


def test_entropy_of_tokens_by_hand():
    tokens, inside = (
        np.array([[0, 0, 1, 1, 9], [2, 2, 2, 2, 9]]),
        np.array([[True] * 4 + [False]] * 2),
    )
    assert token_entropy(tokens, inside) == pytest.approx(np.log(2) / 2)
