"""The BPE tokenizer: lossless, deterministic, single digits."""

import numpy as np
import pytest

from mdm_jax.tasks.gsm8k.tokenizer import EOS, SEPARATOR, load_tokenizer, train_tokenizer

TEXTS = ["Natalia sold clips to 48 of her friends, 24 in May.", "<<48/2=24>> <<48+24=72>> #### 72"]
HARD = [
    "",
    " ",
    "  two  spaces\n\ttab",
    "é ☃ 😀 “quoted”",
    "1080 1,080",
    f"{EOS} {SEPARATOR}",
    "\x00",
]


def test_any_text_comes_back():
    tokenizer = train_tokenizer(TEXTS, 300)
    assert [tokenizer.decode(ids) for ids in tokenizer.encode(TEXTS + HARD)] == TEXTS + HARD


def test_text_never_becomes_special_tokens():
    tokenizer = train_tokenizer(TEXTS, 300)
    specials = {tokenizer.eos_id, tokenizer.separator_id}
    assert len(specials) == 2 and max(specials) < tokenizer.size
    ids = np.concatenate(tokenizer.encode(TEXTS + HARD))
    assert not specials & set(ids.tolist()) and ids.max() < tokenizer.size
    assert tokenizer.decode([tokenizer.eos_id, *tokenizer.encode(["a"])[0]]) == "a"


def test_digits_stand_alone():
    tokenizer = train_tokenizer(["1080 1080 1080"] * 50, 300)
    assert [tokenizer.decode([i]) for i in tokenizer.encode(["1080"])[0]] == ["1", "0", "8", "0"]


def test_training_is_deterministic_and_obeys_vocab_size():
    tokenizers = [train_tokenizer(TEXTS * 5, 280) for _ in range(3)]
    assert len({tokenizer.inner.to_str() for tokenizer in tokenizers}) == 1
    assert tokenizers[0].size == 280
    assert train_tokenizer(TEXTS * 5, 270).size == 270
    assert train_tokenizer(["ab"], 5000).size == 259  # one merge, then nothing is left to merge
    with pytest.raises(ValueError, match="vocab_size 257 must be at least 258"):
        train_tokenizer(TEXTS, 257)


def test_save_and_load(tmp_path):
    tokenizer = train_tokenizer(TEXTS, 280)
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert loaded.encode(TEXTS + HARD) == tokenizer.encode(TEXTS + HARD)
    assert (loaded.size, loaded.eos_id, loaded.separator_id) == (280, 0, 1)


def test_files_that_are_no_tokenizer_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.json does not exist"):
        load_tokenizer(tmp_path / "absent.json")
    (tmp_path / "bad.json").write_text('{"version": 1')
    with pytest.raises(ValueError, match=r"bad\.json is not a tokenizer\.json"):
        load_tokenizer(tmp_path / "bad.json")
    inner = train_tokenizer(TEXTS, 280).inner.to_str().replace(EOS, "<end>")
    (tmp_path / "other.json").write_text(inner)
    with pytest.raises(ValueError, match="no token <eos>"):
        load_tokenizer(tmp_path / "other.json")
