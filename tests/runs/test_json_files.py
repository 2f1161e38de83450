"""JSON lines on a real file system: torn, malformed, written by a process that is killed."""

import signal
import subprocess
import sys

import pytest

from mdm_jax.runs.json_files import append_rows, read_rows


def test_torn_last_line_is_dropped_then_repaired(tmp_path):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [{"a": 1}, {"a": "é\n"}])
    whole = path.read_bytes()
    for cut in range(1, len(whole) + 1):
        path.write_bytes(whole[:cut])
        complete = whole[:cut].count(b"\n")
        assert read_rows(path) == [{"a": 1}, {"a": "é\n"}][:complete]
        append_rows(path, [{"a": 3}])
        assert read_rows(path) == [*[{"a": 1}, {"a": "é\n"}][:complete], {"a": 3}]


@pytest.mark.parametrize("line", ['{"a": ', "[1]", ""])
def test_malformed_middle_line_is_named(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n' + line + '\n{"a": 2}\n')
    with pytest.raises(ValueError, match=r"rows\.jsonl:2: not a JSON"):
        read_rows(path)


def test_rows_that_cannot_be_described_write_nothing(tmp_path):
    path = tmp_path / "rows.jsonl"
    with pytest.raises(ValueError, match="of type object"):
        append_rows(path, [{"a": 1}, {"a": object()}])
    assert not path.exists()


def test_killed_writer_leaves_readable_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    writer = (
        "import sys; from mdm_jax.runs.json_files import append_rows\n"
        "for i in range(10**9):\n"
        "    append_rows(sys.argv[1], [{'step': i, 'text': 'x' * 5000}])\n"
        "    print(flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", writer, str(path)], stdout=subprocess.PIPE
    ) as process:
        for _ in range(5):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    steps = [row["step"] for row in read_rows(path)]
    assert len(steps) >= 5
    assert steps == list(range(len(steps)))
