"""Spoken digits: recordings from a directory, or synthesised where there are none."""

import itertools
import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.io.wavfile
import scipy.signal
from jaxtyping import Float, Int

from mdm_jax.errors import MdmError
from mdm_jax.external_files import expand
from mdm_jax.tasks.digits3.layout import WORDS
from mdm_jax.tasks.digits3.mel import RATE, mel_frames, trimmed

_NAME = re.compile(r"([0-9])_(.+)_([0-9]+)\.wav")
_SYNTHESISER = "espeak-ng"
_VARIANTS = ("m1", "m3", "m5", "m7", "f1", "f2", "f3", "f4")  # voices of one language
_PITCHES, _SPEEDS = (30, 50, 70), (130, 160, 190)  # 0..99; words a minute


class Spoken(NamedTuple):
    """Spoken digits, in order of speaker, number and digit."""

    frames: Float[np.ndarray, "n 16 20"]
    labels: Int[np.ndarray, " n"]
    speakers: tuple[str, ...]  # of each
    numbers: Int[np.ndarray, " n"]  # which recording of this digit by this speaker
    seconds: Float[np.ndarray, " n"]  # durations of the words


def load_speech(data_dir: str | None, may_synthesise: bool = False) -> Spoken:
    """The recordings DIGIT_SPEAKER_NUMBER.wav of a directory; None: synthesised ones.

    The names are those of the Free Spoken Digit Dataset.

    Args:
      may_synthesise: speech is also synthesised where the directory has no recordings.

    Raises:
      MdmError: no directory with such recordings, or none given and no synthesiser installed.
    """
    if may_synthesise and data_dir is not None and not _names_in(expand(data_dir)):
        data_dir = None
    if data_dir is not None:
        return _recorded(expand(data_dir))
    if shutil.which(_SYNTHESISER) is None:
        raise MdmError(
            "digits3 needs spoken digits: give --data_dir a directory of recordings named "
            f"DIGIT_SPEAKER_NUMBER.wav, or install {_SYNTHESISER}"
        )
    with tempfile.TemporaryDirectory() as directory:
        _synthesise(Path(directory))
        return _recorded(Path(directory))


def _names_in(directory: Path) -> list[tuple[str, int, int, str]]:
    """Speaker, number, digit and name of each recording."""
    matches = [_NAME.fullmatch(path.name) for path in directory.glob("*.wav")]
    return sorted((m[2], int(m[3]), int(m[1]), m[0]) for m in matches if m)


def _recorded(directory: Path) -> Spoken:
    names = _names_in(directory)
    if not names:
        problem = "has no files named DIGIT_SPEAKER_NUMBER.wav" if directory.is_dir() else "is none"
        raise MdmError(f"data_dir {directory} {problem}: give a directory of recordings")
    sounds = [trimmed(read_sound(directory / name[3])) for name in names]
    speakers, numbers, labels = (tuple(name[i] for name in names) for i in range(3))
    seconds = np.array([len(sound) / RATE for sound in sounds])
    frames = np.stack([mel_frames(sound) for sound in sounds])
    return Spoken(frames, np.array(labels, np.int32), speakers, np.array(numbers), seconds)


def read_sound(path: Path) -> Float[np.ndarray, " samples"]:
    """The samples of a WAV file at `RATE`, its channels averaged.

    Raises:
      MdmError: it is none, or has no sound.
    """
    try:
        rate, sound = scipy.io.wavfile.read(path)
    except (ValueError, OSError, struct.error) as error:
        raise MdmError(f"{path} is no WAV file that can be read: {error}") from error
    sound = np.asarray(sound, np.float64)
    sound = sound.mean(axis=1) if sound.ndim == 2 else sound
    if not np.any(sound):
        raise MdmError(f"{path} is silent: remove it")
    return sound if rate == RATE else scipy.signal.resample_poly(sound, RATE, rate)


def _synthesise(directory: Path) -> None:
    """Every digit by several voices at several pitches and speeds; a voice is a speaker."""
    for variant in _VARIANTS:
        for number, (pitch, speed) in enumerate(itertools.product(_PITCHES, _SPEEDS)):
            for digit, word in enumerate(WORDS):
                path = directory / f"{digit}_{variant}_{number}.wav"
                settings = ["-v", f"en-us+{variant}", "-p", str(pitch), "-s", str(speed)]
                _run([_SYNTHESISER, *settings, "-w", str(path), word])


def _run(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise MdmError(f"{' '.join(words)} failed: {' '.join(done.stderr.split())[:200]}")
