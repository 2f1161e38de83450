"""Text8: three parts of a file, windows, gaps."""

import jax
import numpy as np
import pytest

from mdm_jax.tasks.text.task import Text8, read_corpus

TEXT = "".join(chr(97 + i % 7) for i in range(900)) + "A" * 50 + "abcdefg\n☃" * 6


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "all.txt").write_text(TEXT[:1000])
    return str(tmp_path)


def task(corpus, **settings):
    return Text8(data_dir=corpus, **{"length": 10, "gap": 4, **settings})


def test_vocabulary_is_of_the_training_part_with_one_id_for_the_unseen(corpus):
    text8 = task(corpus)
    assert text8.vocabulary.size == 7 + 1 and text8.vocabulary.eos_id is None
    assert (text8.heldout().tokens == 7).all()  # the heldout part is all "A"
    assert text8.decode(text8.heldout().tokens[0]) == "\N{REPLACEMENT CHARACTER}" * 10


def test_training_windows_start_anywhere_in_the_training_part(corpus):
    text8 = task(corpus)
    tokens, maskable = text8.train_batch(0, 0, 3000)
    assert maskable.all() and tokens.dtype == np.int32 and tokens.shape == (3000, 10)
    np.testing.assert_array_equal(tokens, (tokens[:, :1] + np.arange(10)) % 7)
    _, counts = np.unique(tokens[:, 0], return_counts=True)
    assert len(counts) == 7 and np.sum((counts - 3000 / 7) ** 2 / (3000 / 7)) < 22.5  # p = .001


def test_batches_are_a_function_of_seed_and_step(corpus):
    one = task(corpus).train_batch(1, 2, 8).tokens
    np.testing.assert_array_equal(one, task(corpus).train_batch(1, 2, 8).tokens)
    assert (one != task(corpus).train_batch(1, 3, 8).tokens).any()
    assert (one != task(corpus).train_batch(2, 2, 8).tokens).any()


def test_heldout_windows_are_the_part_once(tmp_path):
    (tmp_path / "a.txt").write_text("x" * 900 + "".join(chr(200 + i) for i in range(49)) + "x" * 51)
    text8 = Text8(data_dir=str(tmp_path / "a.txt"), length=10, gap=1)
    assert text8.heldout().tokens.shape == (5, 10)
    (tmp_path / "b.txt").write_text("abcdefghij" * 100)
    text8 = Text8(data_dir=str(tmp_path / "b.txt"), length=10, gap=1)
    assert [text8.decode(row) for row in text8.heldout().tokens] == ["abcdefghij"] * 5


def test_examples_have_a_gap_in_the_middle(corpus):
    text8 = task(corpus)
    canvases, references = text8.examples("test")
    assert canvases.shape == (5, 10)
    masked = canvases == text8.vocabulary.mask_id
    np.testing.assert_array_equal(np.flatnonzero(masked.all(axis=0)), [3, 4, 5, 6])
    np.testing.assert_array_equal(canvases[~masked], references[~masked])
    assert (task(corpus, gap=2).examples().canvases == text8.vocabulary.mask_id).sum() == 10
    assert task(corpus, length=20).examples().canvases.shape == (2, 20)


@pytest.mark.parametrize("settings", [{}, {"gap": 3}, {"length": 20, "gap": 1}])
def test_only_the_gap_of_the_examples_stays_maskable(corpus, settings):
    text8 = task(corpus, **settings)
    batch = text8.train_batch(0, 0, 5)
    in_gap = text8.examples("train", 5).canvases == text8.vocabulary.mask_id
    for seed in (0, 1):
        prompted = text8.with_prompts(batch, seed)
        np.testing.assert_array_equal(prompted.maskable, in_gap)
        np.testing.assert_array_equal(prompted.tokens, batch.tokens)
    assert batch.maskable.all()  # the one that was given stays as it was


def test_fewer_examples_are_a_prefix_and_more_are_all(corpus):
    text8 = task(corpus, num_examples=3)
    assert len(text8.examples().canvases) == 3
    np.testing.assert_array_equal(text8.examples("train", 7)[0], text8.examples("train", 50)[0][:7])
    assert len(text8.examples("test", 1000).canvases) == 5
    starts = text8.examples("train", 90).references[:, 0]
    assert (np.diff(starts[:20]) % 7 != 3).any()  # not in the order of the file


def test_verify_compares_every_character(corpus):
    text8 = task(corpus)
    canvases, references = text8.examples("train", 3)
    verify = jax.jit(jax.vmap(text8.verify))
    assert verify(references, references).all() and not verify(canvases, references).any()
    one_off = references.copy()
    one_off[1, 4] = (one_off[1, 4] + 1) % 7
    np.testing.assert_array_equal(verify(one_off, references), [True, False, True])


def test_decode_keeps_line_ends_and_shows_masks(tmp_path):
    (tmp_path / "a.txt").write_text("ab\ncd\nef\n\n" * 60)
    text8 = Text8(data_dir=str(tmp_path), length=10, gap=2)
    assert text8.decode(text8.examples("test", 1).canvases[0]) == "ab\nc▁▁ef\n\n"


def test_files_are_joined_in_order_of_name(tmp_path):
    for name, text in {"b.txt": "second", "a.txt": "first ", "c.md": "never"}.items():
        (tmp_path / name).write_text(text)
    assert read_corpus(str(tmp_path)) == "first second"
    assert read_corpus(str(tmp_path / "c.md")) == "never"


def test_impossible_settings_are_named():
    with pytest.raises(ValueError, match="gap 0 must be at least 1"):
        Text8(gap=0)
    with pytest.raises(ValueError, match="gap 8 must be at least 1, below the length 8"):
        Text8(length=8)
    with pytest.raises(ValueError, match="num_examples 0"):
        Text8(num_examples=0)
    with pytest.raises(ValueError, match="count -1"):
        Text8(data_dir=__file__, length=10).examples("test", -1)
    with pytest.raises(ValueError, match="split 'valid'"):
        Text8(data_dir=__file__, length=10).examples("valid")


def test_unusable_texts_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"text8 needs a text: .*--data_dir"):
        _ = Text8().vocabulary
    with pytest.raises(ValueError, match=r"absent does not exist"):
        _ = Text8(data_dir=str(tmp_path / "absent")).vocabulary
    with pytest.raises(ValueError, match=r"has no \.txt file"):
        _ = Text8(data_dir=str(tmp_path)).vocabulary
    (tmp_path / "a.txt").write_text("a" * 1000)
    with pytest.raises(ValueError, match="heldout part has 50 of 1000 characters, fewer than one"):
        _ = Text8(data_dir=str(tmp_path), length=51).vocabulary
    (tmp_path / "a.txt").write_text("".join(chr(256 + i) for i in range(1000)))
    with pytest.raises(ValueError, match=r"900 distinct characters .* more than 512"):
        _ = Text8(data_dir=str(tmp_path), length=10).vocabulary
    (tmp_path / "a.txt").write_bytes(b"ok " * 1000 + b"\xff" + b"ok" * 1000)
    with pytest.raises(ValueError, match=r"a\.txt is not UTF-8 at byte 3000"):
        _ = Text8(data_dir=str(tmp_path)).vocabulary


@pytest.mark.official_data
def test_shakespeare_is_read(official_data):
    directory = official_data / "tiny_shakespeare"
    text8 = Text8(data_dir=str(directory))
    text = (directory / "input.txt").read_corpus()
    assert text8.vocabulary.size == len(set(text[: round(0.9 * len(text))])) + 1
    windows = [text8.decode(row) for row in text8.train_batch(0, 0, 20).tokens]
    assert all(window in text[: round(0.9 * len(text))] for window in windows)
    assert text8.decode(text8.heldout().tokens[0]) in text
