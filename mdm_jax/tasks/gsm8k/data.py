"""The questions and answers of GSM8K (Cobbe et al., arXiv:2110.14168): from its files, or by TFDS."""

import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mdm_jax.errors import MdmError
from mdm_jax.external_files import expand, parse_json, read_text, split_lines
from mdm_jax.tasks.gsm8k.scorer import extract_answer
from mdm_jax.tasks.splits import hold_out

AnswerFormat = Literal["solution", "equations"]
FILES = ("train", "test")
HOW_TO_GET = (
    "put the official train.jsonl and test.jsonl (github.com/openai/grade-school-math) "
    "into a directory and pass it as --data_dir"
)
_EXPECTED = 'expected one JSON object such as {"question": "...", "answer": "... #### 18"}'


class Item(NamedTuple):
    """One problem. The answer is the official text: steps, `<<48/2=24>>`, last line `#### 72`."""

    question: str
    answer: str

    @property
    def gold(self) -> str:
        """The number after `####`, as written: `72` or `1,080`."""
        return self.answer.rpartition("####")[2].splitlines()[0].strip()

    def formatted(self, answers: AnswerFormat) -> str:
        """The answer to train on: the text without `<<...>>`, or only those and the number."""
        if answers == "solution":
            return re.sub(r"<<.*?>>", "", self.answer)
        return " ".join([*re.findall(r"<<.*?>>", self.answer), "####", self.gold.replace(",", "")])


def load_items(data_dir: str | None, cache_dir: str | None = None) -> dict[str, list[Item]]:
    """Items of train, heldout and test.

    Heldout are the 5 % of the training file whose questions hash lowest, at least one.

    Args:
      data_dir: directory with the official train.jsonl and test.jsonl, which is only read; items keep
        the order of the files. None: TFDS' own "gsm8k", which needs the network once, and whose items
        come in the order of a hash.
      cache_dir: where TFDS keeps data that it has prepared. None: files are read as they are, without
        TFDS; what it downloads is kept in ~/.cache/mdm_jax.

    Raises:
      MdmError: a file is missing or malformed (the line is named), data cannot be fetched, prepared
        data are damaged, or the cache cannot be written.
    """
    if data_dir is not None and cache_dir is None:
        items = read_items(expand(data_dir))
    else:
        from mdm_jax.tasks.gsm8k import tfds_data

        items = tfds_data.load(data_dir, cache_dir)
    questions = [item.question for item in items["train"]]
    return {**hold_out(items["train"], questions), "test": items["test"]}


def read_items(data_dir: Path) -> dict[str, list[Item]]:
    """Items of train.jsonl and test.jsonl, in the order of the files."""
    for name in FILES:
        if not (data_dir / f"{name}.jsonl").is_file():
            raise MdmError(f"{data_dir / f'{name}.jsonl'} does not exist: {HOW_TO_GET}")
    return {name: _read_file(data_dir / f"{name}.jsonl") for name in FILES}


def _read_file(path: Path) -> list[Item]:
    return [
        _item(parse_json(line, where), where) for line, where in split_lines(read_text(path), path)
    ]


def _item(record: Any, where: str) -> Item:
    if not isinstance(record, dict):
        raise MdmError(f"{where} is a {type(record).__name__}: {_EXPECTED}")
    for key in ("question", "answer"):
        if not isinstance(record.get(key), str) or not record[key].strip():
            raise MdmError(f"{where} has no text under {key!r}: {_EXPECTED}")
    if "####" not in record["answer"] or extract_answer(record["answer"]) is None:
        raise MdmError(f"{where}: the answer does not end in '#### ' and a number: {_EXPECTED}")
    return Item(record["question"], record["answer"])
