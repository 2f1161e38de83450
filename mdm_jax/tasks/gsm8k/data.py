"""The questions and answers of GSM8K (Cobbe et al., arXiv:2110.14168), through TFDS."""

import functools
import hashlib
import json
import re
import urllib.request
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mdm_jax.tasks.gsm8k.scorer import extract_answer
from mdm_jax.tasks.splits import hold_out

AnswerFormat = Literal["solution", "equations"]
_FILES = ("train", "test")
_OFFICIAL = (
    "https://raw.githubusercontent.com/openai/grade-school-math/"
    "master/grade_school_math/data/test.jsonl"
)
_HOW_TO_GET = (
    "put the official train.jsonl and test.jsonl (github.com/openai/grade-school-math) "
    "into a directory and pass it as --data_dir"
)


class Item(NamedTuple):
    """One problem. The answer is the official text: steps, `<<48/2=24>>`, last line `#### 72`."""

    question: str
    answer: str

    @property
    def gold(self) -> str:
        """The number after `####`, as written: `72` or `1,080`."""
        return self.answer.rpartition("####")[2].splitlines()[0].strip()

    def formatted(self, answers: AnswerFormat) -> str:
        """The answer to learn: the text without `<<...>>`, or only those and the number."""
        if answers == "solution":
            return re.sub(r"<<.*?>>", "", self.answer)
        return " ".join([*re.findall(r"<<.*?>>", self.answer), "####", self.gold.replace(",", "")])


def load_items(data_dir: str | None, cache_dir: str) -> dict[str, list[Item]]:
    """Items of train, heldout and test.

    Heldout are the 5 % of the training file whose questions hash lowest, at least one. Items keep
    the order of the files. `data_dir` holds train.jsonl and test.jsonl; None asks TFDS
    for its own "gsm8k", which needs the network once, and whose items come in hash order.
    """
    cache = Path(cache_dir).expanduser()
    items = _official(cache) if data_dir is None else _from_files(Path(data_dir), cache)
    questions = [item.question for item in items["train"]]
    return {**hold_out(items["train"], questions), "test": items["test"]}


def _from_files(data_dir: Path, cache: Path) -> dict[str, list[Item]]:
    from mdm_jax.tasks.gsm8k.builder import Gsm8kJsonl

    paths = {name: data_dir.expanduser() / f"{name}.jsonl" for name in _FILES}
    for path in paths.values():
        if not path.is_file():
            raise ValueError(f"{path} does not exist: {_HOW_TO_GET}")
    contents = {name: path.read_bytes() for name, path in paths.items()}
    content_hash = hashlib.sha256(b"\0".join(contents.values())).hexdigest()[:16]
    where = _writable(cache / "gsm8k" / content_hash)
    make = functools.partial(Gsm8kJsonl, data_dir=str(where))
    if not make(records={}).is_prepared():
        records = {name: read_jsonl(paths[name], contents[name]) for name in _FILES}
        _prepare(functools.partial(make, records=records))
    rows = {name: _rows(make(records={}), name) for name in _FILES}
    return {
        name: [_item(row) for row in sorted(rows[name], key=lambda row: int(row["index"]))]
        for name in _FILES
    }


def read_jsonl(path: Path, content: bytes) -> list[tuple[str, str]]:
    """(question, answer) of every line; what is malformed is named by file and line."""
    lines = content.splitlines()
    if not lines:
        raise ValueError(f"{path} is empty: {_HOW_TO_GET}")
    return [_checked(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def _checked(line: bytes, where: str) -> tuple[str, str]:
    expected = 'expected one JSON object such as {"question": "...", "answer": "... #### 18"}'
    try:
        record = json.loads(line.decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"{where} is not JSON in UTF-8 ({error}): {expected}") from error
    if not isinstance(record, dict):
        raise ValueError(f"{where} is a {type(record).__name__}: {expected}")
    for key in ("question", "answer"):
        if not isinstance(record.get(key), str) or not record[key].strip():
            raise ValueError(f"{where} has no text under {key!r}: {expected}")
    if "####" not in record["answer"] or extract_answer(record["answer"]) is None:
        raise ValueError(f"{where}: the answer does not end in '#### ' and a number: {expected}")
    return record["question"], record["answer"]


def _official(cache: Path) -> dict[str, list[Item]]:
    """TFDS's own builder; imported by its path, because by name it is found only with TensorFlow."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.text.gsm8k.gsm8k import Gsm8k

    tfds.disable_progress_bar()
    where = _writable(cache / "tfds")
    make = functools.partial(Gsm8k, data_dir=str(where), file_format="array_record")
    if not make().is_prepared():
        try:
            urllib.request.urlopen(_OFFICIAL, timeout=10).close()  # TFDS itself retries for minutes
            _prepare(make)
        except Exception as error:
            raise ValueError(f"GSM8K could not be fetched ({error!r}): {_HOW_TO_GET}") from error
    items = {name: [_item(row) for row in _rows(make(), name)] for name in _FILES}
    return {name: sorted(items[name], key=_hash_order) for name in _FILES}


def _hash_order(item: Item) -> tuple[str, Item]:
    return hashlib.sha256(item.question.encode()).hexdigest(), item


def _rows(builder: Any, split: str) -> list[dict[str, Any]]:
    source = builder.as_data_source(split=split)
    return [source[index] for index in range(len(source))]


def _item(row: dict[str, Any]) -> Item:
    return Item(row["question"].decode("utf-8"), row["answer"].decode("utf-8"))


def _writable(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"cannot create {directory} ({error}): pass another --cache_dir"
        ) from error
    return directory


def _prepare(make: Any) -> None:
    """Prepares the data set; another process that does the same may be the one to finish."""
    try:
        make().download_and_prepare()
    except OSError as error:
        if not make().is_prepared():
            raise ValueError(
                f"cannot prepare GSM8K ({error}): pass another --cache_dir if it cannot be written"
            ) from error
