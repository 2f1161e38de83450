"""GSM8K's files: read as they are or prepared by TFDS, in order; what is malformed is named."""

import importlib.resources.abc
import io
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mdm_jax.errors import MdmError
from mdm_jax.tasks.gsm8k.data import Item, load_items

LINE = {"question": "How many?", "answer": "It is <<1+1=2>>2.\n#### 2"}


def item(index):
    steps = f"<<{index}+1={index + 1}>>"
    answer = f"So {index} + 1 = {steps}{index + 1}.\n#### {index + 1}"
    return {"question": f"What is {index} + 1?", "answer": answer}


def write(directory, train=60, test=20):
    for name, indices in {"train": range(train), "test": range(1000, 1000 + test)}.items():
        lines = [json.dumps(item(index)) for index in indices]
        (directory / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return str(directory)


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return write(tmp_path / "data")


@pytest.fixture
def cache(tmp_path):
    return str(tmp_path / "cache")


@pytest.mark.parametrize("prepared", [False, True])
def test_items_are_those_of_the_files_in_their_order(data, cache, prepared):
    items = load_items(data, cache if prepared else None)
    assert items["test"] == [Item(**item(index)) for index in range(1000, 1020)]
    both = sorted(items["train"] + items["heldout"], key=lambda i: int(i.question.split()[2]))
    assert both == [Item(**item(index)) for index in range(60)]
    assert items["train"] == [i for i in both if i not in items["heldout"]]
    assert len(items["heldout"]) == 4  # hashes up to the one at 5 %
    assert load_items(data, cache) == items and Path(cache).exists()


def test_reading_files_prepares_nothing_and_needs_no_tfds(data, tmp_path):
    code = f"""
import sys
from mdm_jax.tasks.gsm8k import Gsm8k
assert len(Gsm8k(data_dir={data!r}).items["test"]) == 20
assert not any(name.startswith("tensorflow_datasets") for name in sys.modules)
"""
    environment = {**os.environ, "HOME": str(tmp_path / "home")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("file", ["*test*array_record*", "dataset_info.json"])
def test_damaged_prepared_data_are_named(data, cache, file):
    load_items(data, cache)
    (path,) = Path(cache).rglob(file)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MdmError, match=r"the prepared GSM8K in .* is damaged .*delete that"):
        load_items(data, cache)


def test_prepared_data_are_reused_and_changed_files_noticed(data, cache):
    load_items(data, cache)
    prepared = [path.stat().st_mtime_ns for path in sorted(Path(cache).rglob("*.array_record*"))]
    load_items(data, cache)
    again = [path.stat().st_mtime_ns for path in sorted(Path(cache).rglob("*.array_record*"))]
    assert prepared == again and len(again) == 2
    write(Path(data), test=5)
    assert len(load_items(data, cache)["test"]) == 5


def test_the_data_directory_is_only_read(data, cache):
    before = sorted(Path(data).iterdir())
    Path(data).chmod(0o555)
    load_items(data, cache)
    assert sorted(Path(data).iterdir()) == before


def test_two_processes_may_prepare_at_once(data, cache):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        one, two = pool.starmap(load_items, [(data, cache)] * 2)
    assert one == two == load_items(data, cache)


def test_equal_questions_stay_in_one_split(tmp_path, cache):
    lines = [json.dumps(item(index % 7)) for index in range(70)]
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    items = load_items(str(tmp_path), cache)
    assert len(items["heldout"]) == 10 and len(items["train"]) == 60
    assert len({i.question for i in items["heldout"]}) == 1


def test_answers_in_both_formats():
    made = Item("q", "A is $<<2*500=1000>>1,000.\nB is <<1000+80=1080>>1,080.\n#### 1,080")
    assert made.gold == "1,080"
    assert made.formatted("solution") == "A is $1,000.\nB is 1,080.\n#### 1,080"
    assert made.formatted("equations") == "<<2*500=1000>> <<1000+80=1080>> #### 1080"
    assert Item("q", "No steps.\n#### -3").formatted("equations") == "#### -3"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "line 3 is not JSON"),
        ('{"question": "How', "line 3 is not JSON"),
        ("[1, 2]", "line 3 is a list"),
        (json.dumps({"question": "q"}), "line 3 has no text under 'answer'"),
        (json.dumps({**LINE, "question": " "}), "line 3 has no text under 'question'"),
        (json.dumps({**LINE, "answer": 2}), "line 3 has no text under 'answer'"),
        (json.dumps({**LINE, "answer": "It is 2."}), "line 3: the answer does not end in '#### '"),
        (json.dumps({**LINE, "answer": "#### two"}), "line 3: the answer does not end in '#### '"),
        (json.dumps({**LINE, "answer": r"\boxed{2}"}), "line 3: the answer does not end in"),
    ],
)
@pytest.mark.parametrize("name", ["train", "test"])
def test_a_malformed_line_is_named_before_anything_is_prepared(data, cache, name, line, message):
    path = Path(data) / f"{name}.jsonl"
    good = json.dumps(LINE)
    path.write_bytes("\n".join([good, good, line, good]).encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=rf"{name}\.jsonl, {message}"):
        load_items(data)
    with pytest.raises(ValueError, match=rf"{name}\.jsonl, {message}"):
        load_items(data, cache)
    assert not list(Path(cache).rglob("*.array_record*"))


def test_missing_and_empty_files_are_named(data, cache, tmp_path):
    with pytest.raises(ValueError, match=r"train\.jsonl does not exist.*--data_dir"):
        load_items(str(tmp_path / "absent"), cache)
    (Path(data) / "test.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"test\.jsonl is empty"):
        load_items(data, cache)
    (Path(data) / "test.jsonl").unlink()
    with pytest.raises(ValueError, match=r"test\.jsonl does not exist"):
        load_items(data, cache)


def test_a_cache_that_cannot_be_made_is_named(data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="pass another --cache_dir"):
        load_items(data, str(tmp_path / "file" / "cache"))


def test_without_network_the_user_is_told_where_to_get_the_files(cache, monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(ValueError, match=r"could not be fetched.*no route to host.*--data_dir"):
        load_items(None, cache)


def test_the_builder_of_tfds_gives_the_same_items(data, cache, monkeypatch):
    from tensorflow_datasets.core.download import DownloadManager

    files = {name: Path(data) / f"{name}.jsonl" for name in ("train", "test")}
    monkeypatch.setitem(sys.modules, "importlib_resources", importlib.resources)
    monkeypatch.setattr(DownloadManager, "download_and_extract", lambda self, urls: files)
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **kwargs: io.BytesIO())
    official, ours = load_items(None, cache), load_items(data, cache)
    assert {name: set(items) for name, items in official.items()} == {
        name: set(items) for name, items in ours.items()
    }
    assert official == load_items(None, cache) and official["test"] != ours["test"]


@pytest.mark.official_data
def test_official_files_are_read_completely(official_data, cache):
    items = load_items(str(official_data / "gsm8k"), cache)
    assert len(items["test"]) == 1319 and len(items["train"]) + len(items["heldout"]) == 7473
    assert 0.045 < len(items["heldout"]) / 7473 < 0.055
    assert items["test"][0].question.startswith("Janet") and items["test"][0].gold == "18"
    assert items["test"][0].formatted("equations") == "<<16-3-4=9>> <<9*2=18>> #### 18"
