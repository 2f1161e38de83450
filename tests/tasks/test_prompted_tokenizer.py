"""Published tokenizers: special ids agree with config.json, chat templates are rendered."""

import json

import pytest
from published_files import (
    BOS,
    CONFIG,
    DREAM_TEMPLATE,
    END,
    EOS,
    EOT,
    MASK,
    SETTINGS,
    SPECIAL,
    START,
    VOCAB,
    byte_tokenizer,
    write_files,
)

from mdm_jax.tasks.prompted.chat import render
from mdm_jax.tasks.prompted.tokenizer import load_text_tokenizer

ASK = [{"role": "user", "content": " Why? "}]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_text_tokenizer(write_files(tmp_path_factory.mktemp("files")))


def test_text_goes_there_and_back(tokenizer):
    texts = ["12 + 34 = 46", "naïve ☃\n", ""]
    assert [tokenizer.decode(ids) for ids in tokenizer.encode(texts)] == texts
    ids = tokenizer.encode(["a<|eot_id|>"], bare=True)[0]
    assert ids[-1] == EOT and tokenizer.decode(ids) == "a"
    assert tokenizer.decode(ids, special=True) == "a<|eot_id|>"


def test_ids_without_a_token_are_unused_and_no_text(tokenizer):
    vocabulary = tokenizer.vocabulary
    assert (vocabulary.size, vocabulary.eos_id, vocabulary.mask_id) == (VOCAB, EOS, MASK)
    assert vocabulary.pad_id == VOCAB
    known = {*range(256), *SPECIAL.values()}
    assert vocabulary.unused == tuple(i for i in range(VOCAB) if i not in known)
    assert tokenizer.is_text([0, 255, EOS])
    for odd in (MASK, 256, VOCAB - 1, VOCAB, -1):
        assert not tokenizer.is_text([0, odd])


def test_llada_template(tokenizer):
    text = tokenizer.chat(ASK)
    head = "<|start_header_id|>{}<|end_header_id|>\n\n"
    asked = "<|startoftext|>" + head.format("user") + "Why?<|eot_id|>"
    assert text == asked + head.format("assistant")
    ids = tokenizer.encode([text], bare=True)[0]
    assert [i for i in ids if i >= 256] == [BOS, START, END, EOT, START, END]
    both = [{"role": "system", "content": "Be brief."}, *ASK]
    assert tokenizer.chat(both).count("<|startoftext|>") == 1


def test_dream_template():
    prompt = {"add_generation_prompt": True}
    text = render(DREAM_TEMPLATE, ASK, prompt, "here")
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    asked = "<|im_start|>user\n Why? <|im_end|>\n<|im_start|>assistant\n"
    assert text == system + asked
    given = [{"role": "system", "content": "Be brief."}, *ASK]
    expected = "<|im_start|>system\nBe brief.<|im_end|>\n" + asked
    assert render(DREAM_TEMPLATE, given, prompt, "here") == expected


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ raise_exception('roles must alternate') }}",
        "{% for %}",
        "{{ messages.append(1) }}",
        "{% for i in range(999999999) %}x{% endfor %}",
        "{{ messages[7]['role'] + 1 }}",
    ],
)
def test_templates_that_fail_or_leave_the_sandbox(template):
    with pytest.raises(ValueError, match=r"the chat template of here failed: .*"):
        render(template, ASK, {}, "here")


def test_where_a_template_is_looked_for(tmp_path):
    plain = {**SETTINGS, "chat_template": None}
    with pytest.raises(ValueError, match=r"no chat template .*--task\.no-chat"):
        load_text_tokenizer(write_files(tmp_path, settings=plain)).chat(ASK)
    named = [{"name": "tools", "template": "T"}, {"name": "default", "template": "D"}]
    listed = load_text_tokenizer(write_files(tmp_path, settings={**plain, "chat_template": named}))
    assert listed.chat(ASK) == "D"
    (tmp_path / "chat_template.jinja").write_text("J")
    assert load_text_tokenizer(tmp_path).chat(ASK) == "J"


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (
            {"eos_token_id": EOT},
            {},
            r"eos_token is '<\|endoftext\|>' .*id 300 .*eos_token_id is 302",
        ),
        ({"pad_token_id": 4}, {}, r"pad_token .* is 4 in config\.json: .*different checkpoints"),
        ({}, {"mask_token": "<|eot_id|>"}, r"mask_token is .*id 302 .*mask_token_id is 310"),
        ({}, {"mask_token": "<|absent|>"}, r"mask_token is .*which has id None"),
        ({"mask_token_id": 65}, {}, r"mask_token_id 65 .*ordinary token 'b'.*special token"),
        ({"eos_token_id": 260}, {"eos_token": None}, r"eos_token_id 260 is no token"),
        (
            {"vocab_size": 303, "mask_token_id": 302},
            {},
            r"ids up to 310, but the denoiser only 303",
        ),
    ],
)
def test_files_of_different_checkpoints(tmp_path, config, settings, message):
    write_files(tmp_path, {**CONFIG, **config}, {**SETTINGS, **settings})
    with pytest.raises(ValueError, match=message):
        load_text_tokenizer(tmp_path)


def test_mask_may_lie_beyond_the_tokenizer(tmp_path):
    special = {text: i for text, i in SPECIAL.items() if i != MASK}
    write_files(tmp_path, inner=byte_tokenizer(special))
    vocabulary = load_text_tokenizer(tmp_path).vocabulary
    assert vocabulary.mask_id == MASK and MASK not in vocabulary.unused


def test_files_that_are_missing_or_damaged(tmp_path):
    with pytest.raises(ValueError, match=r"config\.json"):
        load_text_tokenizer(tmp_path)
    write_files(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="the tokenizer cannot be read"):
        load_text_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(
        ValueError, match=r"has no tokenizer\.json, nor vocab\.json with merges\.txt"
    ):
        load_text_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\noid x\n")
    with pytest.raises(ValueError, match=r"tokenizer\.json is only a git-lfs pointer"):
        load_text_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"tokenizer_config\.json is damaged: it is no object"):
        load_text_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("nothing")
    with pytest.raises(ValueError, match=r"tokenizer_config\.json is not JSON"):
        load_text_tokenizer(tmp_path)


def test_vocabulary_and_merges_as_dream_is_published(tmp_path):
    """Digits stay single, a space goes with its word, special tokens have their ids."""
    inner = byte_tokenizer({})
    vocab = inner.get_vocab()
    merged = ["at", "cat", "\u0120cat", "12"]  # the sign stands for a space
    vocab |= {text: 256 + i for i, text in enumerate(merged)}
    merges = ["a t", "c at", "\u0120 cat", "1 2"]
    added = {"260": "<|endoftext|>", "261": "<|mask|>"}
    decoder = {i: {"content": text, "special": True} for i, text in added.items()}
    config = {**CONFIG, "vocab_size": 270, "mask_token_id": 261}
    config |= {"eos_token_id": 260, "pad_token_id": 260}
    settings = {"eos_token": "<|endoftext|>", "added_tokens_decoder": decoder}
    write_files(tmp_path, config, settings)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges))
    tokenizer = load_text_tokenizer(tmp_path)
    text = "cat cat12\n  x<|endoftext|>"
    ids = tokenizer.encode([text], bare=True)[0]
    assert ids[:2] == [257, 258] and 259 not in ids and ids[-1] == 260
    assert tokenizer.decode(ids, special=True) == text
    decoder["265"] = {"content": "<|late|>", "special": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"added token '<\|late\|>' cannot have id 265"):
        load_text_tokenizer(tmp_path)
