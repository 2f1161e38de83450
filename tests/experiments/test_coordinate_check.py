"""What the coordinate check says of activations that move alike, or do not."""

import json

import jax.numpy as jnp
import pytest

from experiments.coordinate_check import Config, Found, report, shape


def found(growth):
    """Changes that grow with a power of the width."""
    return Found(
        "completed-p", "width", {w: jnp.full((8, 4), float(w) ** growth) for w in (16, 64)}
    )


def test_the_verdict_and_what_is_kept(tmp_path, capsys):
    config = Config(run_dir=str(tmp_path / "run"))
    report(config, [found(0.1), found(-0.2)])
    assert "passed" in capsys.readouterr().out
    kept = json.loads((tmp_path / "run" / "table.json").read_text())
    assert [row["slopes"]["MLP"] for row in kept] == pytest.approx([0.1, -0.2], abs=1e-5)
    assert (tmp_path / "run" / "coordinates.png").stat().st_size > 5000
    with pytest.raises(SystemExit) as caught:
        report(config, [found(0.0), found(0.3)])
    assert caught.value.code == 1
    assert "failed: beyond 0.25: embedding by width +0.30" in capsys.readouterr().out


def test_shapes_of_the_two_rules():
    config = Config(widths=(128, 64), depths=(4, 2))
    wide, deep = shape(config, "width", 128, True), shape(config, "depth", 4, False)
    assert (wide.width, wide.depth, wide.heads, wide.base_width, wide.base_depth) == (
        128,
        2,
        8,
        64,
        2,
    )
    assert (deep.width, deep.depth, deep.heads, deep.base_width) == (64, 4, 4, None)
