"""Digests of files, computed once."""

import pytest

from mdm_jax.checksums import text_digest
from mdm_jax.runs import remembered
from mdm_jax.runs.remembered import MEMORY, remembered_digest


@pytest.fixture
def computed(tmp_path, monkeypatch):
    """The files whose content was read."""
    found, real = [], remembered.file_digest
    monkeypatch.setattr(remembered, "user_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(
        remembered, "file_digest", lambda path: (found.append(path.name), real(path))[1]
    )
    return found


def test_a_file_is_read_again_only_when_it_has_changed(tmp_path, computed):
    path = tmp_path / "weights"
    path.write_text("one")
    for _ in range(3):
        assert remembered_digest(path)[:16] == text_digest("one")
    assert computed == ["weights"]
    path.write_text("two")
    assert remembered_digest(path)[:16] == text_digest("two")
    assert computed == ["weights"] * 2


def test_what_is_gone_is_forgotten(tmp_path, computed):
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
        remembered_digest(tmp_path / name)
        (tmp_path / name).unlink()
    memory = (tmp_path / "cache" / MEMORY).read_text()
    assert str(tmp_path / "two") in memory and str(tmp_path / "one") not in memory


@pytest.mark.parametrize("content", ["{", "[]", None])
def test_without_a_memory_that_can_be_read_digests_are_computed(tmp_path, computed, content):
    (tmp_path / "file").write_text("x")
    if content is None:
        (tmp_path / "cache").write_text("no directory")
    else:
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / MEMORY).write_text(content)
    assert remembered_digest(tmp_path / "file")[:16] == text_digest("x")
    assert computed == ["file"]
