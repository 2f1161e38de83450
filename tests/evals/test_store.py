"""The store on a real file system: resumed, torn, damaged."""

import jax
import numpy as np
import pytest

from mdm_jax.errors import MdmError
from mdm_jax.evals import sample_lines
from mdm_jax.evals import store as stores
from mdm_jax.evals.sample_lines import Sample
from mdm_jax.evals.store import SampleStore


def sample(index, setting="random(8)", nfe=8, length=3):
    seconds = index / 4 if index else None
    return Sample(
        setting, index, [index, 1, 2][:length], f"é {index}\n", nfe, nfe + 1, seconds, [-1, 0, 1]
    )


def test_read_gives_back_what_was_written_by_index(tmp_path):
    store = SampleStore(tmp_path / "samples.jsonl")
    store.append([sample(4), sample(1, nfe=5)])
    store.append([sample(1, "iid(2)"), sample(0)])
    for reader in (store, SampleStore(store.path)):
        assert reader.settings() == ["random(8)", "iid(2)"]
        got = reader.read("random(8)")
        np.testing.assert_array_equal(got.index, [0, 1, 4])
        np.testing.assert_array_equal(got.tokens, [[0, 1, 2], [1, 1, 2], [4, 1, 2]])
        np.testing.assert_array_equal(got.nfe, [8, 5, 8])
        np.testing.assert_array_equal(got.passes, [9, 6, 9])
        np.testing.assert_array_equal(got.seconds, [np.nan, 0.25, 1.0])
        assert got.text == ["é 0\n", "é 1\n", "é 4\n"]
        assert reader.read("iid(2)").text == ["é 1\n"]
        assert list(reader.read_all()) == reader.settings()
        for setting, everything in reader.read_all().items():
            jax.tree.map(np.testing.assert_array_equal, everything, reader.read(setting))


def test_arrays_are_stored_as_numbers(tmp_path):
    store = SampleStore(tmp_path / "samples.jsonl")
    tokens, nfe = np.arange(90, dtype=np.int32), np.int32(4)
    seconds = np.float32(0.5)
    store.append(
        [Sample("s", index, tokens, "", nfe, nfe, seconds, tokens) for index in np.arange(2)]
    )
    assert SampleStore(store.path).done("s") == {0, 1}
    np.testing.assert_array_equal(store.read("s").tokens, [tokens, tokens])


def test_evaluation_goes_on_where_it_was_killed(tmp_path):
    path = tmp_path / "samples.jsonl"
    SampleStore(path).append([sample(0), sample(1)])
    whole = path.read_bytes()
    SampleStore(path).append([sample(2), sample(3)])
    for cut in range(len(whole), path.stat().st_size):
        path.write_bytes((whole + path.read_bytes()[len(whole) :])[:cut])
        store = SampleStore(path)
        missing = [index for index in range(4) if index not in store.done("random(8)")]
        assert missing in ([2, 3], [3])
        store.append([sample(index) for index in missing])
        np.testing.assert_array_equal(SampleStore(path).read("random(8)").index, range(4))


def test_done_is_a_copy_and_empty_for_what_is_new(tmp_path):
    store = SampleStore(tmp_path / "samples.jsonl")
    assert store.done("new") == set()
    assert store.settings() == []
    store.append([sample(0)])
    store.done("random(8)").add(7)
    assert store.done("random(8)") == {0}


def test_duplicates_are_refused_before_writing(tmp_path):
    store = SampleStore(tmp_path / "samples.jsonl")
    store.append([sample(0)])
    before = store.path.read_bytes()
    with pytest.raises(ValueError, match=r"'random\(8\)' has index 0 already"):
        store.append([sample(1), sample(0)])
    with pytest.raises(ValueError, match="has index 2 twice"):
        store.append([sample(2), sample(2)])
    assert store.path.read_bytes() == before
    assert store.done("random(8)") == {0}
    store.append([sample(1), sample(1, "other")])
    assert store.done("random(8)") == {0, 1}


def test_a_setting_is_read_from_its_own_lines_alone(tmp_path, monkeypatch):
    """Reading every policy of a store of 164 thousand lines parsed all of them each time."""
    store = SampleStore(tmp_path / "samples.jsonl")
    store.append([sample(i, f"policy {i % 10}") for i in range(100)])
    read, real = [], stores.parse_line
    monkeypatch.setattr(stores, "parse_line", lambda *args: (read.append(args), real(*args))[1])
    np.testing.assert_array_equal(store.read("policy 3").index, range(3, 100, 10))
    assert len(read) == 10


def test_every_flipped_bit_of_a_line_is_found(tmp_path):
    line = sample_lines.format_line(sample(3)).encode()
    assert sample_lines.parse_line(line, "") == sample(3)
    for bit in range(8 * (len(line) - 1)):
        flipped = (int.from_bytes(line) ^ 1 << (bit + 8)).to_bytes(len(line))
        with pytest.raises(MdmError, match=r"here: (damaged|not a JSON|fields)"):
            sample_lines.parse_line(flipped, "here")


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "samples.jsonl"
    SampleStore(path).append([sample(0)])
    line = path.read_text()
    path.write_text(line + line)
    twice = (
        r"samples\.jsonl:2: 'random\(8\)' has index 0 twice; to drop such lines: python -m .*repair"
    )
    with pytest.raises(MdmError, match=twice):
        SampleStore(path)
    path.write_text(line + "{\n" + line)
    with pytest.raises(ValueError, match=r"samples\.jsonl:2: not a JSON line"):
        SampleStore(path)
    path.write_text('{"setting": "s"}\n' + line)
    with pytest.raises(ValueError, match=r"samples\.jsonl:1: fields \['setting'\]"):
        SampleStore(path)


def test_nothing_to_stack(tmp_path):
    store = SampleStore(tmp_path / "samples.jsonl")
    store.append([sample(0), sample(1, length=2)])
    with pytest.raises(ValueError, match=r"lengths \[2, 3\]"):
        store.read("random(8)")
    with pytest.raises(ValueError, match=r"has no 'x', only \['random\(8\)'\]"):
        store.read("x")
