"""A tiny tokenizer of digits3: codes that are the digit, and sounds that are two tones."""

import gzip

import numpy as np
import scipy.io.wavfile

from mdm_jax.tasks.digits3.layout import FRAMES, GRID
from mdm_jax.tasks.digits3.mel import BANDS, RATE
from mdm_jax.tasks.digits3.tokenizer import UNSEEN, Classifier, Coded, Tokenizer

CODES = 12


def tiny_tokenizer(grid=GRID, patch=2):
    """Every item of digit d has code d everywhere but at its first position, which tells items apart;
    classifiers are right about all of them. One speaker in four is unseen.
    """

    def coded(positions, splits):
        labels = np.tile(np.arange(10, dtype=np.int32), len(splits))
        codes = np.tile(labels[:, None], (1, positions))
        codes[:, 0] = np.repeat(np.arange(len(splits)), 10)
        return Coded(codes, labels, np.repeat(np.array(splits, np.int32), 10))

    def classifier(positions):
        weights = np.zeros((positions, CODES, 10), np.float32)
        weights[1:, np.arange(10), np.arange(10)] = 1.0
        return Classifier(weights, np.zeros(10, np.float32))

    return Tokenizer(
        patches=np.linspace(0, 1, CODES * patch**2, dtype=np.float32).reshape(CODES, -1),
        frames=np.linspace(-3, 3, CODES * BANDS, dtype=np.float32).reshape(CODES, BANDS),
        seconds=0.25,
        images=coded(grid[0] * grid[1], [0, 0, 1, 2]),
        speech=coded(FRAMES, [0, 1, 2, UNSEEN]),
        image_classifier=classifier(grid[0] * grid[1]),
        speech_classifier=classifier(FRAMES),
    )


def settings_in(directory, grid=GRID, patch=2):
    """The settings of a task with the tiny tokenizer, which is written into the directory."""
    path = directory / "digits3.json"
    tiny_tokenizer(grid, patch).save(str(path))
    return {"tokenizer_file": str(path), "image_codes": CODES, "speech_codes": CODES}


def write_sounds(directory, speakers=("ann", "bob"), numbers=3, seconds=0.08):
    """Recordings of all digits: two tones that the digit chooses, a little noise, silence around."""
    rng, times = np.random.default_rng(0), np.arange(int(seconds * RATE)) / RATE
    for who, speaker in enumerate(speakers):
        for digit in range(10):
            for number in range(numbers):
                tones = (300 + 60 * digit + 10 * who, 3000 - 200 * digit)
                sound = sum(np.sin(2 * np.pi * tone * times) for tone in tones)
                sound = np.pad(0.3 * sound + 0.01 * rng.normal(size=len(times)), 800)
                path = directory / f"{digit}_{speaker}_{number}.wav"
                scipy.io.wavfile.write(path, RATE, (sound * 20000).astype(np.int16))


def write_idx(directory, part, count, packed=False, side=28):
    """IDX files of images, brighter with the digit, and their labels, as of MNIST; returns both."""
    labels = (np.arange(count) % 10).astype(np.uint8)
    noise = np.random.default_rng(count).integers(0, 20, (count, side, side))
    pixels = (noise + 20 * labels[:, None, None]).astype(np.uint8)
    for kind, values in (("images", pixels), ("labels", labels)):
        sizes = np.array(values.shape, ">u4").tobytes()
        content = bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()
        path = directory / f"{part}-{kind}-idx{values.ndim}-ubyte{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(content) if packed else content)
    return pixels, labels
