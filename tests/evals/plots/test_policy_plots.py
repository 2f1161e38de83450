"""Figures of decisions: what is drawn is what was decided."""

import numpy as np
import pytest

from mdm_jax.evals.plots import Decided, decisions_figure, response_figure, save


def generation(steps):
    rng = np.random.default_rng(steps)
    left = np.arange(4) % steps  # the step of each
    is_masked = left >= np.arange(steps)[:, None]
    return Decided(rng.normal(size=(steps, 4)), is_masked, left == np.arange(steps)[:, None])


def test_decisions_are_drawn_where_they_were_made(tmp_path):
    stages = {"before": generation(2), "after": generation(3)}
    figure = decisions_figure(stages, (2, 2))
    panels = np.reshape([a for a in figure.axes if a.get_label() != "<colorbar>"], (2, 3))
    assert not panels[0, 2].get_visible() and panels[1, 2].get_visible()
    for line, decided in zip(panels, stages.values(), strict=True):
        for panel, utilities, is_masked, unmask in zip(line, *decided, strict=False):
            image = panel.images[0].get_array().filled(np.nan).ravel()
            np.testing.assert_array_equal(np.isnan(image), ~is_masked)
            np.testing.assert_allclose(image[is_masked], utilities[is_masked])
            places, rows = panel.lines[0].get_data()
            assert sorted(2 * rows + places) == np.flatnonzero(unmask).tolist()
    assert [panels[i, 0].get_ylabel() for i in (0, 1)] == ["before", "after"]
    save(figure, tmp_path / "decisions.png")


def test_the_response_is_the_mean_utility_at_a_confidence():
    confidence = np.repeat(np.linspace(0.05, 0.95, 10), 5)
    figure = response_figure(
        {"rising": (confidence, 2 * confidence), "flat": (confidence, 0 * confidence)}
    )
    lines = [line for line in figure.axes[0].lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in lines] == ["rising", "flat"]
    x, y = lines[0].get_data()
    np.testing.assert_allclose(y, 2 * x)
    assert (np.diff(x) > 0).all() and (lines[1].get_ydata() == 0).all()
    response_figure({"constant": (np.full(5, 0.25), np.arange(5.0))})  # all equally sure


@pytest.mark.parametrize(
    "figure", [lambda: decisions_figure({}, (2, 2)), lambda: response_figure({})]
)
def test_nothing_to_plot(figure):
    with pytest.raises(ValueError, match="to plot"):
        figure()
