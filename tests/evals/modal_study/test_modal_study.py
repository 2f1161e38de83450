"""The study: its trainings see as many tokens, and its tables say what each seed reached."""

import numpy as np
from scipy import stats

from mdm_jax.evals.intervals import seeds_interval
from mdm_jax.evals.modal_study.measure import BITS, name_of
from mdm_jax.evals.modal_study.table import AGAINST, cells, markdown, table_of, write_study
from mdm_jax.evals.modal_study.variants import SEQUENTIAL, Setting, parts
from mdm_jax.evals.plots import study_figure
from mdm_jax.policies.heuristics import TopConfidence


def test_all_trainings_see_as_many_tokens():
    batch, steps = 64, 2000
    for name, part in parts(batch, steps).items():
        assert len({one.name for one in part.trainings}) == len(part.trainings)
        assert len(set(part.settings)) == len(part.settings)
        for one in part.trainings:
            views = 2 if one.name in ("complement", "antithetic") else 1
            size, count = one.settings.get("batch_size", batch), one.settings.get("steps", steps)
            assert views * size * count == batch * steps, (name, one.name)


def test_a_setting_says_what_it_is():
    assert Setting("t2i", guidance=2.0, grows=True).name == (
        "TopConfidence, 4 calls, temperature 1, guidance 2 growing"
    )
    assert "sequential" in Setting("i2t", TopConfidence(SEQUENTIAL)).name


def test_tables_have_means_and_intervals_over_seeds(tmp_path):
    part = parts(8, 2)["anti-masking"]
    bits = {"nats": 10.0, "text": 0.1, "image": 0.2, "speech": 0.3}

    def rows(correct, more=0.0):
        names = {name_of(one, 100): {"correct": correct, "total": 100} for one in part.settings}
        return {BITS: bits | {"nats": 10.0 + more}} | names

    found = {one.directory: [rows(80, 0.1), rows(90, -0.1)] for one in part.trainings}
    found[part.trainings[-1].directory] = [rows(80, 0.6), rows(90, 0.4)]
    table = table_of("anti-masking", part, found, 100)
    half = stats.t.ppf(0.975, 1) * np.std([80, 90], ddof=1) / np.sqrt(2)
    low, high = seeds_interval([80.0, 90.0])
    np.testing.assert_allclose((low, high), (85 - half, 85 + half))
    first = dict(zip(("", *table.columns), cells(table)[0], strict=True))
    assert (
        first["t2i"] == f"85.0 ± {half:.1f}"
        and first["nats / sequence"] == f"10.00 ± {stats.t.ppf(0.975, 1) * 0.1:.2f}"
    )
    column = 1 + table.columns.index(AGAINST)
    assert [line[column] for line in cells(table)] == ["", *["0.00 ± 0.00"] * 2, "0.50 ± 0.00"]
    assert "18.69 without, 17.81 with" in markdown(table)
    write_study([table], "settings", tmp_path / "one" / "question")
    assert markdown(table) in (tmp_path / "one" / "question" / "table.md").read_text()
    one = table_of("anti-masking", part, {k: v[:1] for k, v in found.items()}, 100)
    shown = dict(zip(("", *one.columns), cells(one)[0], strict=True))
    assert shown["nats / sequence"] == "10.10" and "±" in shown["t2i"]
    points = {line.name: {"t2i": (85.0, low, high)} for line in table.lines}
    assert len(study_figure({"a": points, "b": points, "c": points}).axes) == 4
