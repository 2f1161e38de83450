"""Speech as a fixed number of mel frames, and back to sound."""

import numpy as np
import scipy.signal
from jaxtyping import Float

from mdm_jax.tasks.digits3.layout import FRAMES

RATE = 8000  # samples a second, of everything
WINDOW = 256  # samples, 32 ms
BANDS, LOWEST, HIGHEST = 20, 80.0, 4000.0  # Hz
FLOOR = 1e-4  # added to powers before the logarithm
QUIET = 5e-3  # of the largest power: below it a word has not begun, or is over
SMOOTHED = 200  # samples over which power is averaged to find that
GRIFFIN_LIM = 60  # iterations
PER_FRAME = 2  # windows that are averaged to one frame


def trimmed(sound: Float[np.ndarray, " samples"]) -> Float[np.ndarray, " kept"]:
    """The sound at peak 1, without the silence before and after."""
    sound = sound / max(float(np.abs(sound).max()), 1e-9)
    power = np.convolve(sound**2, np.ones(SMOOTHED) / SMOOTHED, "same")
    loud = np.flatnonzero(power >= QUIET * power.max())
    return sound[loud[0] : loud[-1] + 1]


def mel_frames(sound: Float[np.ndarray, " samples"]) -> Float[np.ndarray, "16 20"]:
    """Log mel powers in equal parts of a trimmed sound, its mean removed.

    So neither speed nor loudness is in them, and of the voice's pitch almost nothing.
    """
    padded = np.pad(sound, WINDOW // 2)
    starts = np.linspace(0, len(padded) - WINDOW, PER_FRAME * FRAMES).astype(int)
    windows = padded[starts[:, None] + np.arange(WINDOW)] * np.hanning(WINDOW)
    powers = np.abs(np.fft.rfft(windows)) ** 2 @ mel_filters().T
    frames = np.log(powers + FLOOR).reshape(FRAMES, PER_FRAME, BANDS).mean(axis=1)
    return (frames - frames.mean()).astype(np.float32)


def mel_filters() -> Float[np.ndarray, "20 129"]:
    """Triangles, equally spaced in mel = 2595 log10(1 + f / 700) (O'Shaughnessy 1987)."""
    ends = 2595 * np.log10(1 + np.array([LOWEST, HIGHEST]) / 700)
    edges = 700 * (10 ** (np.linspace(*ends, BANDS + 2) / 2595) - 1)
    frequencies = np.arange(WINDOW // 2 + 1) * RATE / WINDOW
    left, centre, right = (edges[i : i + BANDS, None] for i in range(3))
    rising, falling = (
        (frequencies - left) / (centre - left),
        (right - frequencies) / (right - centre),
    )
    return np.maximum(0, np.minimum(rising, falling))


def sound_of(frames: Float[np.ndarray, "16 20"], seconds: float) -> Float[np.ndarray, " samples"]:
    """A sound of that duration with about these mel frames, peak 0.9.

    Griffin and Lim's iteration (1984): phases that fit the magnitudes, from random ones.
    """
    hop = WINDOW // 4
    steps = max(round(seconds * RATE / hop), 2)
    places = np.linspace(0, FRAMES - 1, steps)
    smooth = np.stack([np.interp(places, np.arange(FRAMES), band) for band in frames.T])
    magnitudes = np.sqrt(np.linalg.pinv(mel_filters()).clip(0) @ np.exp(smooth))
    phases = np.exp(2j * np.pi * np.random.default_rng(0).random(magnitudes.shape))
    settings = {"nperseg": WINDOW, "noverlap": WINDOW - hop}
    for _ in range(GRIFFIN_LIM):
        _, sound = scipy.signal.istft(magnitudes * phases, **settings)
        again = scipy.signal.stft(sound, **settings)[2][:, :steps]
        phases = again / np.maximum(np.abs(again), 1e-9)
    _, sound = scipy.signal.istft(magnitudes * phases, **settings)
    return 0.9 * sound / max(float(np.abs(sound).max()), 1e-9)
