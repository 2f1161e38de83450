"""Laws from the command line: read, fitted, printed, written."""

import json

import numpy as np
import pytest
from commands import call

RNG = np.random.default_rng(0)
RUNS = 40
LAWS = {
    "loss": (
        "parameters,tokens,loss",
        lambda n, d: 1.5 + 200 * n**-0.3 + 900 * d**-0.35,
        {"E": 1.5, "A": 200, "alpha": 0.3, "B": 900, "beta": 0.35, "N exponent": 0.35 / 0.65},
    ),
    "downstream": (
        "parameters,tokens,accuracy",
        lambda n, d: np.exp(-(20 * n**-0.25 + 90 * d**-0.3)),
        {"A": 20, "alpha": 0.25, "B": 90, "beta": 0.3},
    ),
    "calls-kl": (
        "calls,excess,kl",
        lambda calls, excess: 3 * calls**-1.2 + 0.8 * excess**0.9,
        {"A": 3, "a": 1.2, "B": 0.8, "b": 0.9},
    ),
}


def write(path, law):
    names, target, _ = LAWS[law]
    ends = ((1, 64), (1e-3, 1)) if law == "calls-kl" else ((1e6, 1e9), (1e8, 1e11))
    settings = np.exp([RNG.uniform(*np.log(each), RUNS) for each in ends])
    rows = np.array([*settings, target(*settings)]).T
    path.write_text("\n".join([names, *(",".join(map(repr, row.tolist())) for row in rows)]))


@pytest.mark.parametrize("law", LAWS)
def test_a_law_is_found_and_written(tmp_path, capsys, law):
    write(tmp_path / "runs.csv", law)
    words = ["--runs", tmp_path / "runs.csv", "--law", law, "--draws", "40"]
    call("fit_laws", *words, "--out_dir", tmp_path / "out")
    shown = capsys.readouterr().out
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    found = {each["name"]: each["value"] for each in table["estimates"]}
    assert found == pytest.approx(LAWS[law][2], rel=1e-3)
    assert table["mean_relative_errors"]["held out"] < 1e-4
    assert table["formula"] in " ".join(shown.split()) and "4 held out" in shown
    assert len(table["points"]["at"]) == RUNS
    assert (tmp_path / "out" / "law.png").stat().st_size > 5000
