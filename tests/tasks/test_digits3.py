"""Digits as caption, image and speech: stream, mixture, verifier, tokenizer and media."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.io.wavfile
from digits_world import settings_in, tiny_tokenizer, write_idx, write_sounds

from mdm_jax.errors import MdmError
from mdm_jax.tasks.base import full_name
from mdm_jax.tasks.digits3 import Digits3, fitting, idx, images, speech
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
    items = task._items("test", np.stack([[[d / 10 + 0.01, 0, 0]] for d in digits]))
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
    monkeypatch.setattr(images, "load_images", lambda: (pictures, labels))
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
    assert (images.joined(parts[1], 4) == pictures[1]).all()


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


# ---- larger images, several digits -------------------------------------------------------------


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    home = tmp_path_factory.mktemp("two")
    return Digits3(**settings_in(home, grid=(4, 4), patch=7), num_digits=2, images="idx", patch=7)


def test_two_digits_are_side_by_side_and_one_after_another(two):
    """Prompts completed by items of their number are right; by those of its digits swapped, not."""
    joint = replace(two, direction="joint")
    drawn = np.array([[[0.41, 0, 0], [0.71, 0, 0]], [[0.71, 0, 0], [0.41, 0, 0]]])
    items = joint._items("test", drawn)
    assert items.numbers.tolist() == [47, 74]
    tokens = joint._batch(np.full(2, DIRECTIONS.index("joint")), items.contents).tokens
    shown = [joint.decode(row).split("\n")[0] for row in tokens]
    assert shown == ["four seven", "seven four"]
    assert [joint.numbers(row).tolist() for row in jnp.asarray(tokens)] == [[47] * 3, [74] * 3]
    text, image, speech = joint.stream.spans
    assert image.grid == (4, 8) and (text.length, speech.length) == (11, 32)
    codes = (tokens[0, image.positions] - image.first_id).reshape(image.grid)
    assert (codes[1, :4] == 4).all() and (codes[1, 4:] == 7).all()
    reference = jax.tree.map(lambda x: x[0], joint.examples("test", 1).references)
    assert joint.verify(tokens[0], reference)
    for span in joint.stream.spans:
        mixed = tokens[0].copy()
        mixed[span.positions] = tokens[1, span.positions]
        assert not joint.verify(mixed, reference)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_two_digits_in_every_direction(two, direction):
    one = replace(two, direction=direction)
    prompts, number = one.examples("test", 6), one.examples("test", 6).references.digit
    if direction == "joint":
        assert (number == -1).all()
        return
    drawn = np.stack([[[n // 10 / 10 + 0.01, 0, 0], [n % 10 / 10 + 0.01, 0, 0]] for n in number])
    contents = one._items("test", drawn).contents
    tokens = one._batch(np.full(6, DIRECTIONS.index(direction)), contents).tokens
    opened = prompts.canvases == one.vocabulary.mask_id
    canvases = np.where(opened, tokens, prompts.canvases)
    assert jax.vmap(one.verify)(canvases, prompts.references).all()
    other = prompts.references._replace(digit=(number + 1) % 100)
    assert not jax.vmap(one.verify)(canvases, other).any()
    assert full_name(one) == f"digits3-idx-2-digits-{direction}"


def test_media_of_two_digits(two, tmp_path):
    joint = replace(two, direction="joint")
    canvas = joint._batch(
        np.array([DIRECTIONS.index("joint")]),
        joint._items("test", np.full((1, 2, 3), 0.5)).contents,
    ).tokens[0]
    lines = joint.decode(canvas).split("\n")
    assert lines[0] == "five five" and len(lines) == 1 + 1 + 14 + 1 + 4
    joint.save_media(canvas, str(tmp_path), "x")
    rate, sound = scipy.io.wavfile.read(tmp_path / "x.wav")
    assert abs(len(sound) / rate - 0.5) < 0.1


def test_images_of_idx_files(tmp_path):
    """Values, labels and the test part; compressed files are the same."""
    pixels, labels = write_idx(tmp_path, "train", 30)
    alone = idx.load_idx(str(tmp_path), 28)
    assert alone.tests is None and (alone.images == pixels.astype(np.float32) / 255).all()
    assert (alone.labels == labels).all()
    write_idx(tmp_path, "t10k", 10, packed=True)
    both = idx.load_idx(str(tmp_path), 28)
    assert both.tests == 10 and len(both.images) == len(both.labels) == 40


def test_fitted_on_idx_files_and_recordings_of_one_directory(tmp_path, monkeypatch):
    write_sounds(tmp_path)
    write_idx(tmp_path, "train", 60)
    write_idx(tmp_path, "t10k", 20)
    monkeypatch.setattr(fitting, "_COPIES", 1)
    settings = {"image_codes": 8, "speech_codes": 6, "images": "idx", "patch": 7}
    found = Digits3(data_dir=str(tmp_path), num_digits=2, **settings).tokenizer
    assert found.patch == 7 and found.grid == (4, 4)
    assert np.bincount(found.images.splits).tolist() == [54 * 2, 6, 20]
    assert (found.images.splits[60:80] == 2).all()


def test_upsampled_images_are_the_small_ones_enlarged():
    small = images.load_images()[0][:5]
    large = images.upsampled(small, 28)
    assert large.shape == (5, 28, 28) and large.min() >= 0 and large.max() <= 1
    back = large.reshape(5, 4, 7, 4, 7).mean(axis=(2, 4))
    assert np.abs(back - small.reshape(5, 4, 2, 4, 2).mean(axis=(2, 4))).max() < 0.1


def damaged(path, change):
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    "change, problem",
    [
        (
            lambda home: (home / "train-images-idx3-ubyte").unlink(),
            "has no train-images-idx3-ubyte",
        ),
        (lambda home: damaged(home / "train-images-idx3-ubyte", lambda b: b[:-1]), "truncated"),
        (lambda home: damaged(home / "train-images-idx3-ubyte", lambda b: b[:9]), "truncated"),
        (lambda home: damaged(home / "train-labels-idx1-ubyte", lambda b: b""), "with nothing"),
        (
            lambda home: damaged(home / "train-labels-idx1-ubyte", lambda b: b"\0\0\x08\3" + b[4:]),
            "begins with 00000803",
        ),
        (lambda home: damaged(home / "train-labels-idx1-ubyte", lambda b: b[:-1] + b"\n"), "10"),
        (lambda home: write_idx(home, "train", 20, side=14), "must be 28x28"),
        (
            lambda home: (
                (home / "train-labels-idx1-ubyte").rename(home / "x")
                and (home / "train-labels-idx1-ubyte.gz").write_bytes(b"no")
            ),
            "cannot be read",
        ),
        (
            lambda home: damaged(
                home / "train-labels-idx1-ubyte",
                lambda b: b[:4] + (19).to_bytes(4, "big") + b[8:-1],
            ),
            "19 labels",
        ),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path, change, problem):
    write_idx(tmp_path, "train", 20)
    change(tmp_path)
    with pytest.raises(MdmError, match=problem):
        idx.load_idx(str(tmp_path), 28)


def test_images_that_do_not_fit_are_refused(two, tmp_path):
    with pytest.raises(MdmError, match="--data_dir"):
        idx.load_idx(None, 28)
    with pytest.raises(MdmError, match="images of 28 pixels a side, and patches of 7"):
        _ = replace(two, images="small", patch=None).tokenizer
    for more, problem in (
        ({"num_digits": 4}, "num_digits"),
        ({"images": "idx", "patch": 3}, "must divide the 28 pixels"),
    ):
        with pytest.raises(MdmError, match=problem):
            Digits3(**more)
