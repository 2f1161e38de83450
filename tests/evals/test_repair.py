"""A store that two writers, or a disk, have damaged is made usable again."""

import pytest

from mdm_jax.errors import MdmError
from mdm_jax.evals.repair import Repaired, repair
from mdm_jax.evals.sample_lines import Sample, format_line
from mdm_jax.evals.store import SampleStore


def line(index, token=1, setting="a", seconds=None):
    return format_line(Sample(setting, index, [token], "x", 1, 1, seconds, [0]))


def test_only_what_is_certain_is_kept(tmp_path):
    path, backup = tmp_path / "samples.jsonl", tmp_path / "before"
    damaged = line(7).replace('"x"', '"y"')
    lines = [line(0), line(1), line(0, seconds=2.0), line(2), line(2, token=3), damaged]
    path.write_text("".join([*lines, line(2, setting="b"), line(9)[:-9]]))
    with pytest.raises(MdmError, match=r"python -m experiments\.repair_store --store"):
        SampleStore(path)
    whole = path.read_text()
    assert repair(path, backup) == Repaired(kept=3, repeated=1, contradictory=2, damaged=2)
    assert path.read_text() == line(0) + line(1) + line(2, setting="b")
    assert backup.read_text() == whole
    store = SampleStore(path)
    assert (store.done("a"), store.done("b")) == ({0, 1}, {2})


def test_what_is_in_order_stays_as_it_is(tmp_path):
    path, backup = tmp_path / "samples.jsonl", tmp_path / "before"
    path.write_text(line(0) + line(1))
    assert repair(path, backup) == Repaired(2, 0, 0, 0)
    assert path.read_text() == line(0) + line(1) and not backup.exists()
    path.write_text(line(0) + line(0))
    backup.write_text("of another time")
    with pytest.raises(MdmError, match="before is there already: move it away first"):
        repair(path, backup)
    assert path.read_text() == line(0) + line(0)
