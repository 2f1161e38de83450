"""What the figures of a learned order show is read back from the drawn artists."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from mdm_jax.evals.plots import calls_figure, priorities_figure, save


def made_up(n, length, steps=4):
    """Orders with a prompt, at which the posterior has values that must not be shown."""
    rng = np.random.default_rng(0)
    given = rng.random((n, length)) < 0.3
    given[:, -1] = False
    policy = np.where(given, -1, rng.integers(0, steps, (n, length)))
    return np.where(given, 1e6, rng.uniform(0, steps - 1, (n, length))), policy, given


def panels(figure):
    """All axes but that of the colour bar, which is the last."""
    *shown, bar = figure.axes
    assert bar.get_ylabel() == "step of reveal"
    return shown


def written(axes):
    return {text.get_position(): text.get_text() for text in axes.texts}


def is_legible(figure, names):
    """Nothing is cut off, and what is named overlaps neither another name nor a panel."""
    figure.draw_without_rendering()
    tight, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    inside = min(tight.x0, tight.y0) >= 0 and tight.x1 <= width and tight.y1 <= height
    found = [text for text in figure.findobj(Text) if text.get_visible()]
    found = [text for text in found if text.get_text() in names]
    assert {text.get_text() for text in found} == set(names)
    boxes = [text.get_window_extent() for text in found]
    others = [axes.get_window_extent() for axes in figure.axes]
    clashes = [a.overlaps(b) for i, a in enumerate(boxes) for b in others + boxes[:i]]
    return inside and not any(clashes)


def test_grids_show_the_steps_by_hand():
    posterior = np.array([[0.04, 9.0, 1.5, 2.0], [np.nan, 3.0, 0.0, 1.26]])
    policy = np.array([[0, -1, 1, 2], [-1, 1, 0, 2]])
    given = np.array([[False, True, False, False], [True, False, False, False]])
    figure = priorities_figure(posterior, policy, given, (2, 2), ["one", "two"])
    shown = panels(figure)
    assert [axes.get_ylabel() for axes in shown] == ["posterior", "", "policy", ""]
    assert [axes.get_title() for axes in shown] == ["one", "two", "", ""]
    # by (column, row), as matplotlib places them
    assert [written(axes) for axes in shown] == [
        {(0, 0): "0.0", (0, 1): "1.5", (1, 1): "2.0"},
        {(1, 0): "3.0", (0, 1): "0.0", (1, 1): "1.3"},
        {(0, 0): "0", (0, 1): "1", (1, 1): "2"},
        {(1, 0): "1", (0, 1): "0", (1, 1): "2"},
    ]
    assert [axes.images[0].get_clim() for axes in shown] == [(0, 3)] * 4
    grey = shown[0].images[0].to_rgba(shown[0].images[0].get_array())[0, 1]
    assert to_hex(grey) == "#d9d9d9"
    assert shown[0].yaxis_inverted()  # row 0 of the task is on top
    assert shown[1].texts[0].get_color() == "black"  # on yellow
    assert shown[2].texts[0].get_color() == "white"  # on violet


@pytest.mark.parametrize(("n", "grid", "steps"), [(1, (4, 4), 4), (4, (4, 4), 4), (2, (9, 9), 30)])
def test_grids_are_legible(n, grid, steps):
    titles = [f"example {i}" for i in range(n)]
    orders = made_up(n, grid[0] * grid[1], steps)
    figure = priorities_figure(*orders, grid, titles)
    assert is_legible(figure, [*titles, "posterior", "policy", "step of reveal"])
    for axes in panels(figure):
        (x0, x1), (y1, y0) = axes.transData.transform([(0, 0), (1, 1)]).T
        for text in axes.texts:
            box = text.get_window_extent()
            assert box.width < 0.9 * (x1 - x0) and box.height < 0.9 * (y1 - y0)


@pytest.mark.parametrize(("n", "length"), [(1, 5), (3, 31), (4, 1024)])
def test_strips_show_posterior_above_policy(n, length):
    posterior, policy, given = made_up(n, length)
    titles = [f"example {i}" for i in range(n)]
    figure = priorities_figure(posterior, policy, given, titles=titles)
    shown = panels(figure)
    assert [axes.get_title(loc="left") for axes in shown] == titles
    assert [axes.get_xlabel() for axes in shown] == [""] * (n - 1) + ["position"]
    for index, axes in enumerate(shown):
        (image,) = axes.images
        expected = np.where(given[index], np.nan, [posterior[index], policy[index]])
        np.testing.assert_array_equal(image.get_array().filled(np.nan), expected)
        assert image.get_clim() == (0, max(policy.max(), posterior[~given].max()))
        assert [text.get_text() for text in axes.get_yticklabels()] == ["posterior", "policy"]
        assert axes.yaxis_inverted()  # the first row is on top
    assert is_legible(figure, [*titles, "posterior", "policy", "position", "step of reveal"])


def test_what_was_never_revealed_is_grey_for_the_policy_only():
    policy = np.array([[0, -1, 1]])
    axes, _ = priorities_figure(np.array([[0.0, 2.5, 1.0]]), policy, policy > 1).axes
    assert axes.images[0].get_array().tolist() == [[0, 2.5, 1], [0, None, 1]]


def test_priorities_of_a_single_step():
    figure = priorities_figure(np.zeros((1, 4)), np.zeros((1, 4), int), np.zeros((1, 4), bool))
    assert is_legible(figure, ["step of reveal"])
    assert panels(figure)[0].images[0].get_clim() == (0, 1)


def test_steps_are_shares_by_number_of_calls():
    nfe = {"learned": np.array([2, 2, 4, 5]), "fixed": np.array([4, 4])}
    figure = calls_figure(nfe)
    (axes,) = figure.axes
    assert [bars.get_label() for bars in axes.containers] == ["learned", "fixed"]
    heights = [[bar.get_height() for bar in bars] for bars in axes.containers]
    np.testing.assert_allclose(heights, [[0.5, 0, 0.25, 0.25], [0, 0, 1, 0]])
    left, right = ([bar.get_x() for bar in bars] for bars in axes.containers)
    np.testing.assert_allclose(left, [1.6, 2.6, 3.6, 4.6])  # the group is around its number
    np.testing.assert_allclose(right, [2, 3, 4, 5])
    assert axes.get_xticks().tolist() == [2, 3, 4, 5]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["learned", "fixed"]


@pytest.mark.parametrize(("families", "most"), [(1, 1), (3, 8), (9, 300)])
def test_steps_of_many_policies_look_different(families, most):
    rng = np.random.default_rng(0)
    nfe = {f"policy {i}": rng.integers(1, most, 40, endpoint=True) for i in range(families)}
    figure = calls_figure(nfe)
    (axes,) = figure.axes
    bars = [container[0] for container in axes.containers]
    looks = {(to_hex(bar.get_facecolor()), to_hex(bar.get_edgecolor())) for bar in bars}
    assert len(looks) == families
    assert is_legible(figure, [*nfe, "share of sequences"])
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))


def test_figures_can_be_saved(tmp_path):
    save(priorities_figure(*made_up(2, 16), (4, 4)), tmp_path / "grids.png", dpi=40)
    save(priorities_figure(*made_up(2, 300)), tmp_path / "strips.png", dpi=40)
    save(calls_figure({"learned": np.array([1, 2])}), tmp_path / "steps.png", dpi=40)
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")


def replaced(place, array):
    orders = list(made_up(2, 6))
    orders[place] = array
    return orders


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: priorities_figure(*replaced(0, np.zeros((2, 5)))), r"\(2, 5\), \(2, 6\)"),
        (lambda: priorities_figure(*replaced(1, np.zeros((3, 6), int))), r"\(3, 6\), \(2, 6\)"),
        (lambda: priorities_figure(*replaced(2, np.zeros(6, bool))), r"\(6,\)"),
        (lambda: priorities_figure(*(x[0] for x in made_up(2, 6))), r"not all one \[n, length\]"),
        (lambda: priorities_figure(*(x[:0] for x in made_up(2, 6))), r"no examples .*\(0, 6\)"),
        (lambda: priorities_figure(*made_up(2, 6), (2, 2)), r"6 positions, not .*\(2, 2\)"),
        (lambda: priorities_figure(*made_up(2, 6), titles=["a"]), "1 titles for 2 examples"),
        (lambda: priorities_figure(*replaced(2, np.ones((2, 6), bool))), "nothing .* in 2"),
        (lambda: calls_figure({}), "no denoiser calls"),
        (lambda: calls_figure({"x": np.zeros(0, int)}), "'x' has no sequences"),
    ],
)
def test_nothing_to_plot_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
