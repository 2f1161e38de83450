"""samples.jsonl: every generation is stored once, and scorers run over the store."""

import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mdm_jax.runs.json_files import append_rows, read_rows
from mdm_jax.sharding import wait_for_processes


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


class SampleStore:
    """An append-only file of samples; a killed writer loses one batch at most.

    One writer at a time: where there are several processes, all of them append the same samples, the
    first one writes them, and the others wait until they are written.

    Args:
        path: samples.jsonl, which need not exist yet.

    Raises:
        ValueError: for a malformed line or a (setting, index) that is there twice, with file and
            line. An unfinished last line is dropped.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self._done: dict[str, set[int]] = {}
        for number, sample in enumerate(_read(self.path), 1):
            self._add(self._done, sample, f"{self.path}:{number}")
        wait_for_processes("samples are read")

    def settings(self) -> list[str]:
        """The settings with samples, in the order in which they were first written."""
        return list(self._done)

    def done(self, setting: str) -> set[int]:
        """The indices that are there already, so that an evaluation can go on with the others."""
        return set(self._done.get(setting, ()))

    def append(self, samples: Sequence[Sample]) -> None:
        """Writes one batch; it is on disk when this returns.

        Raises:
            ValueError: if a (setting, index) is there already or twice in the batch; nothing has
                been written then.
        """
        samples = [_plain(sample) for sample in samples]
        batch: dict[str, set[int]] = {}
        for sample in samples:
            self._add(batch, sample, "batch")
            if sample.index in self._done.get(sample.setting, ()):
                raise ValueError(
                    f"{self.path}: {sample.setting!r} has index {sample.index} already"
                )
        append_rows(self.path, [sample._asdict() for sample in samples])
        wait_for_processes("samples are written")
        for setting, indices in batch.items():
            self._done.setdefault(setting, set()).update(indices)

    def read(self, setting: str) -> Generations:
        """All generations of a setting.

        Raises:
            ValueError: if there are none, or canvases of different lengths.
        """
        samples = [sample for sample in _read(self.path) if sample.setting == setting]
        if not samples:
            raise ValueError(f"{self.path} has no {setting!r}, only {self.settings()}")
        return _stacked(samples, self.path)

    def read_all(self) -> dict[str, Generations]:
        """All generations of every setting, in one pass over the file.

        Raises:
            ValueError: if a setting has canvases of different lengths.
        """
        groups: dict[str, list[Sample]] = {setting: [] for setting in self._done}
        for sample in _read(self.path):
            groups[sample.setting].append(sample)
        return {setting: _stacked(samples, self.path) for setting, samples in groups.items()}

    @staticmethod
    def _add(done: dict[str, set[int]], sample: Sample, where: str) -> None:
        indices = done.setdefault(sample.setting, set())
        if sample.index in indices:
            raise ValueError(f"{where}: {sample.setting!r} has index {sample.index} twice")
        indices.add(sample.index)


def _plain(sample: Sample) -> Sample:
    """The sample with Python numbers, whatever arrays it came with."""
    return sample._replace(
        index=int(sample.index),
        tokens=[int(token) for token in sample.tokens],
        nfe=int(sample.nfe),
        passes=int(sample.passes),
        seconds=None if sample.seconds is None else float(sample.seconds),
        revealed_at=[int(step) for step in sample.revealed_at],
    )


def _read(path: pathlib.Path) -> list[Sample]:
    rows = read_rows(path)
    for number, row in enumerate(rows, 1):
        required = set(Sample._fields) - Sample._field_defaults.keys()
        if not required <= row.keys() <= set(Sample._fields):
            raise ValueError(f"{path}:{number}: fields {list(row)}, not {list(Sample._fields)}")
    return [Sample(**row) for row in rows]


def _stacked(samples: Sequence[Sample], path: pathlib.Path) -> Generations:
    samples = sorted(samples, key=lambda sample: sample.index)
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
