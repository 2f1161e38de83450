"""samples.jsonl: every generation is stored once, and scorers run over the store."""

import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mdm_jax.errors import MdmError
from mdm_jax.evals.sample_lines import Sample, format_line, parse_line
from mdm_jax.runs.json_files import append_text
from mdm_jax.sharding import wait_for_processes

SAMPLES = "samples.jsonl"


class Generations(NamedTuple):
    """All generations of one setting, by increasing index."""

    index: Int[np.ndarray, " n"]
    tokens: Int[np.ndarray, "n length"]
    text: list[str]
    nfe: Int[np.ndarray, " n"]
    passes: Int[np.ndarray, " n"]
    seconds: Float[np.ndarray, " n"]  # NaN where the time includes compilation
    revealed_at: Int[np.ndarray, "n window"]

    def first(self, count: int) -> "Generations":
        """Those of prompts 0 .. count - 1."""
        inside = self.index < count
        return Generations(*(np.asarray(column)[inside] for column in self))


class _Place(NamedTuple):
    """Where a line begins, and what it was asked."""

    start: int
    asked: str | None


class SampleStore:
    """An append-only file of samples; a killed writer loses one batch at most.

    Only where each sample begins is kept in memory. One writer at a time (see `open_store`): where there
    are several processes, all of them append the same samples, the first one writes them, and the
    others wait until they are written.

    Args:
        path: samples.jsonl, which need not exist yet.

    Raises:
        MdmError: for a damaged line or a (setting, index) that is there twice, with file and line. An
            unfinished last line is dropped.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self._places: dict[str, dict[int, _Place]] = {}  # by setting and index
        self._lines = self._bytes = 0  # that have been read
        self._scan()
        wait_for_processes("samples are read")

    def settings(self) -> list[str]:
        """The settings with samples, in the order in which they were first written."""
        return list(self._places)

    def done(self, setting: str) -> set[int]:
        """The indices that are there already, so that an evaluation can go on with the others."""
        return set(self._places.get(setting, ()))

    def asked(self, setting: str) -> dict[int, str | None]:
        """What was asked, by index, as the samples say."""
        return {index: place.asked for index, place in self._places.get(setting, {}).items()}

    def append(self, samples: Sequence[Sample]) -> None:
        """Writes one batch; it is on disk when this returns.

        Raises:
            ValueError: if a (setting, index) is there already or twice in the batch; nothing has
                been written then.
        """
        batch: set[tuple[str, int]] = set()
        for sample in samples:
            setting, index = sample.setting, int(sample.index)
            if index in self._places.get(setting, ()):
                raise ValueError(f"{self.path}: {setting!r} has index {index} already")
            if (setting, index) in batch:
                raise ValueError(f"batch: {setting!r} has index {index} twice")
            batch.add((setting, index))
        append_text(self.path, "".join(map(format_line, samples)))
        wait_for_processes("samples are written")
        self._scan()

    def read(self, setting: str) -> Generations:
        """All generations of a setting.

        Raises:
            ValueError: if there are none, or canvases of different lengths.
        """
        if setting not in self._places:
            raise ValueError(f"{self.path} has no {setting!r}, only {self.settings()}")
        return _stacked(list(self._read(setting)), self.path)

    def read_all(self) -> dict[str, Generations]:
        """All generations of every setting.

        Raises:
            ValueError: if a setting has canvases of different lengths.
        """
        return {setting: self.read(setting) for setting in self._places}

    def _read(self, setting: str) -> Iterator[Sample]:
        """The samples of a setting by increasing index."""
        with self.path.open("rb") as file:
            for index, place in sorted(self._places[setting].items()):
                file.seek(place.start)
                yield parse_line(file.readline(), f"{self.path}, index {index}")

    def _scan(self) -> None:
        """Notes where the samples begin that have been written since the last time."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._bytes)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._lines += 1
                self._note(line, f"{self.path}:{self._lines}")
                self._bytes += len(line)

    def _note(self, line: bytes, where: str) -> None:
        """Notes where one sample begins.

        Raises:
            MdmError: it is damaged, or there twice; the message says how to mend the file.
        """
        try:
            sample = parse_line(line, where)
            places = self._places.setdefault(sample.setting, {})
            if sample.index in places:
                raise MdmError(f"{where}: {sample.setting!r} has index {sample.index} twice")
        except MdmError as error:
            mend = f"python -m experiments.repair_store --store {self.path.parent}"
            raise MdmError(f"{error}; to drop such lines: {mend}") from error
        places[sample.index] = _Place(self._bytes, sample.asked)


def _stacked(samples: Sequence[Sample], path: pathlib.Path) -> Generations:
    lengths = {len(sample.tokens) for sample in samples}
    if len(lengths) > 1:
        raise ValueError(
            f"{path}: {samples[0].setting!r} has canvases of lengths {sorted(lengths)}"
        )
    return Generations(
        index=np.array([sample.index for sample in samples]),
        tokens=np.array([sample.tokens for sample in samples]),
        text=[sample.text for sample in samples],
        nfe=np.array([sample.nfe for sample in samples]),
        revealed_at=np.array([sample.revealed_at for sample in samples]),
        passes=np.array([sample.passes for sample in samples]),
        seconds=np.array([sample.seconds for sample in samples], dtype=float),
    )
