"""GSM8K through TensorFlow Datasets: prepared once, then read from its record files."""

import functools
import hashlib
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mdm_jax.errors import MdmError
from mdm_jax.external_files import expand
from mdm_jax.tasks.gsm8k.data import FILES, HOW_TO_GET, Item, read_items

DEFAULT_CACHE = "~/.cache/mdm_jax"
_OFFICIAL = (
    "https://raw.githubusercontent.com/openai/grade-school-math/"
    "master/grade_school_math/data/test.jsonl"
)


def load(data_dir: str | None, cache_dir: str | None) -> dict[str, list[Item]]:
    """Items of the files train and test; arguments as `data.load_items`.

    Raises:
      MdmError: data cannot be fetched or prepared, the cache cannot be written, or it is damaged.
    """
    cache = expand(cache_dir or DEFAULT_CACHE)
    return _official(cache) if data_dir is None else _from_files(expand(data_dir), cache)


def _from_files(data_dir: Path, cache: Path) -> dict[str, list[Item]]:
    """Prepared under a hash of what the files hold."""
    from mdm_jax.tasks.gsm8k.builder import Gsm8kJsonl

    found = read_items(data_dir)
    content_hash = hashlib.sha256(repr(found).encode()).hexdigest()[:16]
    where = _writable(cache / "gsm8k" / content_hash)
    make = functools.partial(Gsm8kJsonl, data_dir=str(where), records=found)
    rows = _prepared_rows(make, where)
    return {
        name: [_item(row) for row in sorted(rows[name], key=lambda row: int(row["index"]))]
        for name in FILES
    }


def _official(cache: Path) -> dict[str, list[Item]]:
    """TFDS's own builder; imported by its path, because by name it is found only with TensorFlow."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.text.gsm8k.gsm8k import Gsm8k

    tfds.disable_progress_bar()
    where = _writable(cache / "tfds")
    make = functools.partial(Gsm8k, data_dir=str(where), file_format="array_record")
    try:
        if not _is_prepared(make, where):
            urllib.request.urlopen(_OFFICIAL, timeout=10).close()  # TFDS itself retries for minutes
        rows = _prepared_rows(make, where)
    except MdmError:
        raise
    except Exception as error:
        raise MdmError(f"GSM8K could not be fetched ({error!r}): {HOW_TO_GET}") from error
    items = {name: [_item(row) for row in rows[name]] for name in FILES}
    return {name: sorted(items[name], key=_hash_order) for name in FILES}


def _hash_order(item: Item) -> tuple[str, Item]:
    return hashlib.sha256(item.question.encode()).hexdigest(), item


def _item(row: dict[str, Any]) -> Item:
    return Item(row["question"].decode("utf-8"), row["answer"].decode("utf-8"))


def _prepared_rows(make: Callable, where: Path) -> dict[str, list[dict[str, Any]]]:
    """The records of each split, prepared first where they are not yet."""
    if not _is_prepared(make, where):
        _prepare(make)
    try:
        sources = {split: make().as_data_source(split=split) for split in FILES}
        rows = {split: [source[i] for i in range(len(source))] for split, source in sources.items()}
    except Exception as error:  # array_record raises its own kinds
        raise _damaged(where, error) from error
    if any(None in row.values() for split in rows.values() for row in split):
        raise _damaged(where, "a record has no content")
    return rows


def _is_prepared(make: Callable, where: Path) -> bool:
    try:
        return make().is_prepared()
    except Exception as error:  # dataset_info.json is parsed on the way
        raise _damaged(where, error) from error


def _damaged(where: Path, error: Exception | str) -> MdmError:
    return MdmError(
        f"the prepared GSM8K in {where} is damaged ({error}): delete that directory, and it is "
        "prepared again"
    )


def _prepare(make: Callable) -> None:
    """Prepare the data set; another process that does the same may be the one to finish."""
    try:
        make().download_and_prepare()
    except OSError as error:
        if not make().is_prepared():
            raise MdmError(
                f"cannot prepare GSM8K ({error}): pass another --cache_dir if it cannot be written"
            ) from error


def _writable(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MdmError(f"cannot create {directory} ({error}): pass another --cache_dir") from error
    return directory
