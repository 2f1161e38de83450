"""What the figures show is read back from the drawn artists."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex

from mdm_jax.evals.intervals import beta_interval
from mdm_jax.evals.plots import (
    FrontierRow,
    frontier_figure,
    order_map_figure,
    save,
    training_figure,
)
from mdm_jax.evals.plots.order_maps import mean_step, reveal_shares


def row(policy, nfe, correct, total=50):
    return FrontierRow(policy, nfe, correct / total, *beta_interval(correct, total))


def curves(figure):
    (axes,) = figure.axes
    return {container.get_label(): container for container in axes.containers}


def texts_overlap(figure):
    figure.draw_without_rendering()
    shown = [
        text
        for axes in figure.axes
        if axes.get_visible()
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label)
        if text.get_text()
    ]
    boxes = [text.get_window_extent() for text in shown]
    boxes += [legend.get_window_extent() for legend in figure.legends]
    return any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_frontier_joins_the_points_of_a_policy_by_nfe():
    figure = frontier_figure([row("a", 8.0, 30), row("b", 4.0, 9), row("a", 2.0, 0)])
    found = curves(figure)
    assert list(found) == ["a", "b"]
    np.testing.assert_allclose(found["a"].lines[0].get_xydata(), [[2, 0], [8, 0.6]])
    (bars,) = found["a"].lines[2]
    low, high = beta_interval(30, 50)
    np.testing.assert_allclose(bars.get_segments()[1], [[8, low], [8, high]])
    np.testing.assert_allclose(bars.get_segments()[0], [[2, 0], [2, beta_interval(0, 50).high]])
    assert figure.axes[0].get_xscale() == "log"


def test_frontier_lines_within_a_policy_and_references():
    rows = [row("a", nfe, 20 + nfe) for nfe in (2, 4, 8, 16)]
    side = lambda r: "block 8" if r.nfe < 5 else "block 32"  # noqa: E731
    figure = frontier_figure(rows, {"autoregressive": 0.7}, curve=side)
    one, two = curves(figure).values()
    assert one.lines[0].get_color() == two.lines[0].get_color()
    assert one.lines[0].get_linestyle() != two.lines[0].get_linestyle()
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["a, block 8", "a, block 32", "autoregressive"]


@pytest.mark.parametrize("families", [1, 7, 15])
def test_frontier_families_look_different(families):
    rows = [row(f"policy {i}", 2**j, 2 * i + j) for i in range(families) for j in range(4)]
    figure = frontier_figure(rows)
    looks = {
        (to_hex(line.get_color()), line.get_marker(), to_hex(line.get_markerfacecolor()))
        for line, *_ in curves(figure).values()
    }
    assert len(looks) == families
    assert len({marker for _, marker, _ in looks}) == families
    assert not texts_overlap(figure)


def test_reveal_shares_by_hand():
    steps = np.array([[0, 1, -1, -1], [2, 1, 0, -1], [2, 0, -1, -1], [0, 1, -1, -1]])
    shares = [[0.5, 0.25, 1, np.nan], [0, 0.75, 0, np.nan], [0.5, 0, 0, np.nan]]
    np.testing.assert_array_equal(reveal_shares(steps, 3), shares)
    np.testing.assert_array_equal(mean_step(steps), [1, 0.75, 0, np.nan])


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("grid", [None, (3, 4)])
def test_order_maps_share_one_scale(count, grid):
    rng = np.random.default_rng(0)
    maps = {f"policy {i}": rng.integers(-1, 3 + i, (20, 12)) for i in range(count)}
    figure = order_map_figure(maps, grid)
    images = [axes.images[0] for axes in figure.axes if axes.images and axes.get_title()]
    assert len(images) == count * (2 if grid else 1)
    for image, steps in zip(images, maps.values(), strict=False):
        np.testing.assert_allclose(image.get_array().sum(0), 1)
        np.testing.assert_allclose(image.get_array(), reveal_shares(steps, 2 + count))
        assert image.get_clim() == images[0].get_clim()
    for image, steps in zip(images[count:], maps.values(), strict=False):
        np.testing.assert_allclose(image.get_array(), mean_step(steps).reshape(3, 4))
    assert not texts_overlap(figure)


def test_order_map_of_a_single_step():
    figure = order_map_figure({"all at once": np.zeros((2, 4), int)}, (2, 2))
    figure.draw_without_rendering()
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), np.ones((1, 4)))


def test_training_curves_skip_what_is_missing():
    metrics = [{"step": s, "nelbo_per_token": 4.0 - s} for s in range(3)]
    metrics += [{"step": 3, "nelbo_per_token": float("nan"), "heldout_nelbo_per_token": 2.0}]
    (axes,) = training_figure(metrics).axes
    one, two = axes.lines
    np.testing.assert_array_equal(one.get_xydata(), [[0, 4], [1, 3], [2, 2]])
    np.testing.assert_array_equal(two.get_xydata(), [[3, 2]])
    assert axes.get_ylabel() == "nats per token"


def test_long_training_curves_get_a_centred_mean():
    metrics = [{"step": s, "reward": 2.0 * s, "nfe": s**2} for s in range(1, 501)]
    figure = training_figure(metrics, {"reward": ["reward"], "NFE": ["nfe"]})
    assert [axes.get_ylabel() for axes in figure.axes] == ["reward", "NFE"]
    pale, mean = figure.axes[0].lines
    assert pale.get_alpha() < 1
    np.testing.assert_allclose(mean.get_ydata(), 2 * mean.get_xdata())  # no lag on a straight line
    assert len(mean.get_xdata()) == 491


def test_save_makes_files_and_leaves_pyplot_alone(tmp_path):
    save(frontier_figure([row("a", 2.0, 3)]), tmp_path / "new" / "figure.png", dpi=40)
    assert (tmp_path / "new" / "figure.png").read_bytes().startswith(b"\x89PNG")
    save(frontier_figure([row("a", 2.0, 3)]), str(tmp_path / "figure.pdf"))
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    check = "import sys, mdm_jax.evals.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: frontier_figure([]), "no rows"),
        (lambda: order_map_figure({}), "no order maps"),
        (lambda: order_map_figure({"x": np.full((3, 4), -1)}), "'x' reveals nothing in 3"),
        (lambda: order_map_figure({"x": np.zeros((3, 5), int)}, (2, 2)), "5 positions"),
        (lambda: training_figure([{"step": 1, "a": 1.0}], {"u": ["b"]}), r"1 rows .* \['b'\]"),
        (lambda: training_figure([]), "0 rows"),
    ],
)
def test_nothing_to_plot_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
