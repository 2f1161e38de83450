"""Canvases to look at and to listen to: characters, PNG, WAV."""

from pathlib import Path

import numpy as np
import scipy.io.wavfile
from jaxtyping import Float, Int

from mdm_jax.external_files import expand
from mdm_jax.streams import Span, Stream
from mdm_jax.tasks.digits3.images import joined
from mdm_jax.tasks.digits3.layout import FRAMES, LETTERS
from mdm_jax.tasks.digits3.mel import RATE, sound_of
from mdm_jax.tasks.digits3.tokenizer import Tokenizer

_SHADES = " ░▒▓█"
_OPEN = "▁"  # a masked position
_BANDS_SHOWN = 4  # of the spectrogram, in characters
_SMALL = 8  # rows of an image that is drawn at full size
_ENLARGED = 16  # pixels of a PNG for one of the spectrogram, or of a small image


def codes_of(
    canvas: Int[np.ndarray, " length"], span: Span
) -> Int[np.ndarray, " positions"] | None:
    """The codes of a span, -1 where it is masked; None: the canvas does not have the modality."""
    codes = canvas[span.positions] - span.first_id
    codes = np.where((codes >= 0) & (codes < span.ids), codes, -1)
    return None if (codes < 0).all() and not _is_open(canvas, span) else codes


def _is_open(canvas: Int[np.ndarray, " length"], span: Span) -> bool:
    """Whether a span without tokens is masked, not PAD: PAD fills its boundaries as well."""
    return bool(canvas[span.start] != canvas[span.start - 1])


def image_of(
    codes: Int[np.ndarray, " positions"], tokenizer: Tokenizer
) -> Float[np.ndarray, "side width"]:
    """The image, 0..1, of one digit or of several side by side; NaN where it is masked."""
    parts = np.where(codes[:, None] < 0, np.nan, tokenizer.patches[codes])
    return joined(parts, tokenizer.grid[0]).clip(0, 1)


def mel_of(
    codes: Int[np.ndarray, " positions"], tokenizer: Tokenizer
) -> Float[np.ndarray, "frames 20"]:
    """The mel frames; NaN where they are masked."""
    return np.where(codes[:, None] < 0, np.nan, tokenizer.frames[codes])


def as_text(canvas: Int[np.ndarray, " length"], stream: Stream, tokenizer: Tokenizer) -> str:
    """Caption, image and spectrogram (low tones below) one under another, those that there are."""
    text, image, speech = (codes_of(canvas, span) for span in stream.spans)
    shown = []
    if text is not None:
        shown.append("".join(_OPEN if code < 0 else LETTERS[code] for code in text).rstrip())
    if image is not None:
        shown.append(_drawn(image_of(image, tokenizer)))
    if speech is not None:
        mel = mel_of(speech, tokenizer)
        bands = mel.reshape(len(mel), _BANDS_SHOWN, -1).mean(axis=2).T[::-1]
        low, high = tokenizer.frames.min(), tokenizer.frames.max()
        shown.append(_shaded((bands - low) / (high - low), wide=2))
    return "\n\n".join(shown)


def _drawn(image: Float[np.ndarray, "rows columns"]) -> str:
    """A small image with two characters a pixel; a large one with a character for two pixels."""
    if len(image) <= _SMALL:
        return _shaded(image, wide=2)
    return _shaded(image.reshape(-1, 2, image.shape[1]).mean(axis=1), wide=1)


def _shaded(values: Float[np.ndarray, "rows columns"], wide: int) -> str:
    """A drawing, a character of one of five shades `wide` times for each value."""

    signs = np.array([*_SHADES, _OPEN])
    levels = np.clip(np.nan_to_num(values) * len(_SHADES), 0, len(_SHADES) - 1).astype(int)
    drawn = np.repeat(signs[np.where(np.isnan(values), len(_SHADES), levels)], wide, axis=1)
    return "\n".join("".join(row).rstrip() for row in drawn)


def save_media(
    canvas: Int[np.ndarray, " length"],
    stream: Stream,
    tokenizer: Tokenizer,
    directory: str,
    stem: str,
) -> list[str]:
    """Write image and speech of a finished canvas: STEM.png, STEM.wav and STEM-spectrogram.png.

    Returns:
      The paths of those that there are.
    """
    home = expand(directory)
    home.mkdir(parents=True, exist_ok=True)
    _, image, speech = (codes_of(canvas, span) for span in stream.spans)
    paths = []
    if image is not None:
        picture = image_of(image, tokenizer)
        enlarged = _ENLARGED * _SMALL // len(picture)
        paths.append(_save_png(home / f"{stem}.png", picture, "gray", enlarged))
    if speech is not None:
        mel = mel_of(speech, tokenizer)
        words = np.nan_to_num(mel).reshape(-1, FRAMES, mel.shape[1])
        sound = np.concatenate([sound_of(word, tokenizer.seconds) for word in words])
        scipy.io.wavfile.write(home / f"{stem}.wav", RATE, (sound * 32767).astype(np.int16))
        paths.append(str(home / f"{stem}.wav"))
        paths.append(_save_png(home / f"{stem}-spectrogram.png", mel.T[::-1], "magma", _ENLARGED))
    return paths


def _save_png(
    path: Path, values: Float[np.ndarray, "rows columns"], colours: str, enlarged: int
) -> str:
    from matplotlib import image

    pixels = np.kron(np.nan_to_num(values), np.ones((enlarged, enlarged)))
    image.imsave(path, pixels, cmap=colours)
    return str(path)
