"""Digits as caption, image and speech: stream, mixture, verifier, tokenizer and media."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import scipy.io.wavfile
from digits_world import settings_in, tiny_tokenizer, write_sounds

from mdm_jax.errors import MdmError
from mdm_jax.tasks.base import full_name
from mdm_jax.tasks.digits3 import Digits3, fitting, images, speech
from mdm_jax.tasks.digits3.fitting import fit_tokenizer
from mdm_jax.tasks.digits3.layout import DIRECTIONS, WORDS
from mdm_jax.tasks.digits3.mel import RATE, mel_frames, sound_of, trimmed
from mdm_jax.tasks.digits3.tokenizer import UNSEEN, load_tokenizer
from mdm_jax.tasks.mixture import kinds_of_batch


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return Digits3(**settings_in(tmp_path_factory.mktemp("digits")))


def completed(task, direction):
    """The task in one direction, its prompts, and each completed with an item of the digit it shows."""
    task = replace(task, direction=direction)
    prompts = task.examples("test", 12)
    digits = np.where(prompts.references.digit < 0, np.arange(12) % 10, prompts.references.digit)
    items = task._items("test", np.stack([[d / 10 + 0.01, 0, 0] for d in digits]))
    tokens = task._batch(np.full(12, DIRECTIONS.index(direction)), items.contents).tokens
    opened = prompts.canvases == task.vocabulary.mask_id
    return task, prompts, np.where(opened, tokens, prompts.canvases), digits


# ---- the stream --------------------------------------------------------------------------------


def test_every_content_id_is_in_its_positions_range(task):
    batch = task.train_batch(0, 0, 64)
    allowed = task.stream.allowed(task.vocabulary.size)
    rows, places = np.nonzero(batch.maskable)
    assert allowed[places, batch.tokens[rows, places]].all()
    assert (batch.tokens[:, 0] >= task.layout.tasks[0]).all()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_direction_shows_one_side_and_masks_the_other(task, direction):
    one = replace(task, direction=direction)
    canvases = one.examples("test", 5).canvases
    mask, pad = one.vocabulary.mask_id, one.vocabulary.pad_id
    assert (np.flatnonzero((canvases == mask).all(0)) == one.response).all()
    assert ((canvases[:, one.condition] != mask) & (canvases[:, one.condition] != pad)).all()
    absent = set(range(one.length)) - {0, *one.response, *one.condition}
    boundaries = [s.start - 1 for s in one.stream.spans] + [
        s.start + s.length for s in one.stream.spans
    ]
    assert (canvases[:, sorted(absent - set(boundaries))] == pad).all()


def test_directions_take_exact_turns(task):
    """Any window of a whole cycle has the exact shares, and batches are cut from one stream."""
    shares = task.shares
    long = kinds_of_batch(shares, 0, 10 * sum(shares))
    for start in range(len(long) - sum(shares)):
        window = long[start : start + sum(shares)]
        assert np.bincount(window, minlength=7).tolist() == list(shares)
    parts = [kinds_of_batch(shares, step, 7) for step in range(10)]
    assert (np.concatenate(parts) == long[:70]).all()
    first = task.train_batch(3, 5, 21).tokens[:, 0] - task.layout.tasks[0]
    assert (first == kinds_of_batch(shares, 5, 21)).all()


def test_prompts_of_training_are_shown_as_often_as_asked(task):
    for prompted in (0.0, 1.0):
        batch = replace(task, prompted=prompted).train_batch(0, 0, 20)
        with_prompts = task.with_prompts(batch, 0)
        same = (with_prompts.maskable == batch.maskable).all()
        assert same == (prompted == 1.0)


# ---- the verifier ------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_verifier(task, direction):
    """Right items are accepted; another digit in what was made, or a changed prompt, is not."""
    task, prompts, canvases, digits = completed(task, direction)
    verify = jax.jit(jax.vmap(task.verify))
    assert verify(canvases, prompts.references).all()
    made = [span for span in task.stream.spans if span.start in task.response][-1]
    wrong = canvases.copy()
    wrong[:, made.positions] = np.roll(canvases, 1, axis=0)[:, made.positions]
    same = digits == np.roll(digits, 1)
    assert (np.asarray(verify(wrong, prompts.references)) == same).all() and not same.all()
    for place in task.condition[-1:]:
        touched = canvases.copy()
        touched[:, place] = task.vocabulary.mask_id
        assert not verify(touched, prompts.references).any()


def test_a_caption_that_names_no_digit_agrees_with_nothing(task):
    task, prompts, canvases, _ = completed(task, "joint")
    reference = jax.tree.map(lambda x: x[0], prompts.references)
    canvas = canvases[0].copy()
    assert task.verify(canvas, reference)
    canvas[task.stream.spans[0].positions] = 0
    assert not task.verify(canvas, reference)


def test_unseen_voices_are_another_test_split(task):
    """Their prompts have the codes of the unseen speaker, and the name says so."""
    unseen = replace(task, direction="asr", voices="unseen")
    assert (full_name(task), full_name(unseen)) == ("digits3", "digits3-asr-unseen")
    assert unseen.ceiling("test").endswith("0.0 % of the unseen voices")
    first = [s.start for s in task.stream.spans][2]
    for voices, number in (("seen", 2), ("unseen", 3)):  # see `tiny_tokenizer`
        shown = replace(unseen, voices=voices).examples("test", 4).canvases[:, first]
        assert (shown - task.stream.spans[2].first_id == number).all()


# ---- data and tokenizer ------------------------------------------------------------------------


def test_the_tokenizer_is_the_same_when_read_again(tmp_path):
    whole = tiny_tokenizer()
    whole.save(str(tmp_path / "t.json"))
    assert load_tokenizer(str(tmp_path / "t.json")).digest() == whole.digest()
    assert whole.error("image", 2) == 0.0


def test_fitted_on_training_alone(tmp_path, monkeypatch):
    """Codebooks do not move when what is held out changes; the unseen speaker is in no other split."""
    write_sounds(tmp_path)
    pictures, labels = (part[:300] for part in images.load_images())
    monkeypatch.setattr(fitting, "load_images", lambda: (pictures, labels))
    monkeypatch.setattr(fitting, "_COPIES", 1)
    found = fit_tokenizer(8, 6, str(tmp_path), 1)
    unseen = found.speech.splits == UNSEEN
    assert unseen.sum() == 30 and np.bincount(found.speech.splits).tolist() == [10, 10, 10, 30]
    assert found.error("image", 2) < 0.4
    assert found.speech.codes.max() < 6 and found.images.codes.shape[1] == 16
    for path in tmp_path.glob("*_bob_*.wav"):
        path.write_bytes((tmp_path / path.name.replace("bob", "ann")).read_bytes())
    again = fit_tokenizer(8, 6, str(tmp_path), 1)
    assert (again.frames == found.frames).all() and (again.patches == found.patches).all()


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(speech.shutil, "which", lambda name: None)
    with pytest.raises(MdmError, match="--data_dir"):
        speech.load_speech(None)
    with pytest.raises(MdmError, match="has no files named DIGIT_SPEAKER_NUMBER"):
        speech.load_speech(str(tmp_path))
    with pytest.raises(MdmError, match="is none"):
        speech.load_speech(str(tmp_path / "nowhere"))
    (tmp_path / "1_ann_0.wav").write_bytes(b"RIFF")
    with pytest.raises(MdmError, match="no WAV"):
        speech.load_speech(str(tmp_path))
    write_sounds(tmp_path, ("ann",), numbers=2)
    with pytest.raises(MdmError, match="three are needed"):
        fitting.speech_splits(speech.load_speech(str(tmp_path)), 0)
    with pytest.raises(MdmError, match="leaves none"):
        fitting.speech_splits(speech.load_speech(str(tmp_path)), 1)
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(MdmError, match="none of digits3"):
        load_tokenizer(str(tmp_path / "bad.json"))


@pytest.mark.parametrize(
    "settings, problem",
    [
        ({"shares": (1, 1)}, "7 numbers"),
        ({"shares": (0,) * 7}, "not all 0"),
        ({"prompted": 1.5}, "prompted"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, problem):
    with pytest.raises(MdmError, match=problem):
        Digits3(**settings)


def test_another_codebook_size_is_refused(task):
    with pytest.raises(MdmError, match="codebooks of 12 and 12"):
        _ = replace(task, image_codes=13).tokenizer


def test_patches_are_the_image():
    pictures = np.random.default_rng(0).random((2, 8, 8))
    parts = images.patches(pictures)
    assert (parts[0, 1] == pictures[0, :2, 2:4].ravel()).all()
    assert (images.joined(parts[1]) == pictures[1]).all()


def test_a_sound_made_from_mel_frames_has_them():
    """Griffin-Lim: frames of the new sound are those that were asked for, nearly."""
    noise = np.random.default_rng(0).normal(size=2400)
    low, high = np.convolve(noise, np.ones(8) / 8, "same"), np.diff(noise, prepend=0)
    frames = mel_frames(trimmed(np.concatenate([low[:1200], high[1200:]])))
    again = mel_frames(sound_of(frames, 0.3))
    assert np.corrcoef(frames.ravel(), again.ravel())[0, 1] > 0.9


# ---- what is shown -----------------------------------------------------------------------------


def test_media(task, tmp_path):
    """A caption alone is text; an image is a PNG; speech is a sound of the right length and a picture."""
    _, _, canvases, _ = completed(task, "joint")
    shown = task.decode(canvases[0])
    assert shown.split("\n")[0] in WORDS and len(shown.split("\n")) == 1 + 1 + 8 + 1 + 4
    paths = task.save_media(canvases[0], str(tmp_path), "x")
    assert [path.rsplit("/")[-1] for path in paths] == ["x.png", "x.wav", "x-spectrogram.png"]
    rate, sound = scipy.io.wavfile.read(tmp_path / "x.wav")
    assert rate == RATE and abs(len(sound) / rate - 0.25) < 0.05 and np.abs(sound).max() > 20000
    masked = replace(task, direction="tts").examples("test", 1).canvases[0]
    assert task.decode(masked).endswith("▁" * 32)
    caption = replace(task, direction="i2t").examples("test", 1).canvases[0]
    assert len(task.save_media(caption, str(tmp_path), "y")) == 1
