"""One generation as a line of samples.jsonl, with a checksum."""

import json
import zlib
from typing import NamedTuple

from mdm_jax.errors import MdmError
from mdm_jax.runs.description import describe
from mdm_jax.runs.json_files import parse_row

_CRC = b', "crc": '  # the last field of a line: of all that precedes it


class Sample(NamedTuple):
    """One generation."""

    setting: str  # policy, its knobs, the sampler's settings and the seed, as one label
    index: int  # of the prompt in its split
    tokens: list[int]  # the finished canvas, prompt included
    text: str
    nfe: int
    passes: int  # denoiser calls that its batch executed
    seconds: float | None  # its share of the batch's time; None when that includes compilation
    revealed_at: list[int]  # step at which each position was revealed; -1: it was given
    prompt: str | None = None  # of tasks in words, whose `text` is the response alone
    answer: str | None = None  # what the verifier reads in it
    reference: str | None = None  # and what it compares that with
    asked: str | None = None  # digests of prompt and reference, see `asked.asked`


def format_line(sample: Sample) -> str:
    """A sample as a JSON line, whatever arrays it came with."""
    plain = sample._replace(
        index=int(sample.index),
        tokens=[int(token) for token in sample.tokens],
        nfe=int(sample.nfe),
        passes=int(sample.passes),
        seconds=None if sample.seconds is None else float(sample.seconds),
        revealed_at=[int(step) for step in sample.revealed_at],
    )
    text = json.dumps(describe(plain._asdict()))[:-1]
    return f"{text}{_CRC.decode()}{zlib.crc32(text.encode())}}}\n"


def parse_line(line: bytes, where: str) -> Sample:
    """The sample of a JSON line; one without a checksum is taken as it is.

    Raises:
      MdmError: it is damaged; `where` is named.
    """
    text, _, crc = line.rpartition(_CRC)
    if text and crc != b"%d}\n" % zlib.crc32(text):
        raise MdmError(f"{where}: damaged, not what was written: {line[:80]!r}")
    row = parse_row(line, where)
    row.pop("crc", None)
    required = set(Sample._fields) - Sample._field_defaults.keys()
    if not required <= row.keys() <= set(Sample._fields):
        raise MdmError(f"{where}: fields {list(row)}, not {list(Sample._fields)}")
    return Sample(**row)
