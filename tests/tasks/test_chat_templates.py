"""What chat templates may use, where responses end, and text that reads like a control token."""

import json

import pytest
from published_files import BOS, CONFIG, END, EOS, EOT, MASK, SETTINGS, START, write_files

from mdm_jax.errors import MdmError
from mdm_jax.tasks.prompted.tokenizer import load_text_tokenizer

ASK = [{"role": "user", "content": "Why?"}]
CONTENT = "{{ messages[0]['content'] }}"


def load(directory, template, **settings):
    write_files(directory, settings={**SETTINGS, "chat_template": template, **settings})
    return load_text_tokenizer(directory)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{% if tools is not none %}TOOLS{% endif %}" + CONTENT, "Why?"),
        ("{% if documents is not none %}DOCUMENTS{% endif %}" + CONTENT, "Why?"),
        ("{% for m in messages %}{{ m['content'] }}{% break %}{% endfor %}", "Why?"),
        ("{% generation %}" + CONTENT + "{% endgeneration %}", "Why?"),
        ("{{ strftime_now('%Y')[:1] }}" + CONTENT, "2Why?"),
        ("{{ unk_token }}" + CONTENT, "<|eot_id|>Why?"),
        ("{{ additional_special_tokens[0] }}", "<|eot_id|>"),
        ("{{ {'a': '<ü>'} | tojson }}", '{"a": "<ü>"}'),
        ("{{ [1] | tojson(indent=1) }}", "[\n 1\n]"),
    ],
)
def test_templates_may_use_what_transformers_gives_them(tmp_path, template, expected):
    names = {"unk_token": "<|eot_id|>", "additional_special_tokens": ["<|eot_id|>"]}
    assert load(tmp_path, template, **names).chat(ASK) == expected


def test_special_tokens_map_names_tokens_too(tmp_path):
    settings = {name: value for name, value in SETTINGS.items() if name != "bos_token"}
    write_files(tmp_path, settings=settings)
    (tmp_path / "special_tokens_map.json").write_text(
        '{"bos_token": {"content": "<|startoftext|>"}}'
    )
    assert load_text_tokenizer(tmp_path).chat(ASK).startswith("<|startoftext|>")


@pytest.mark.parametrize(
    ("config", "generation", "template", "ends"),
    [
        ({}, None, None, ()),
        ({}, None, SETTINGS["chat_template"], (EOT,)),
        ({}, None, CONTENT, ()),  # of the answer it says nothing
        ({}, {"eos_token_id": [EOS, EOT, END]}, None, (EOT, END)),
        ({}, {"eos_token_id": EOT}, None, (EOT,)),
        ({"eos_token_id": [EOS, END]}, None, None, (END,)),
    ],
)
def test_ids_that_end_a_response(tmp_path, config, generation, template, ends):
    settings = {**SETTINGS, "chat_template": template}
    write_files(tmp_path, config={**CONFIG, **config}, settings=settings)
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    vocabulary = load_text_tokenizer(tmp_path).vocabulary
    assert vocabulary.turn_ends == ends and vocabulary.ends == (EOS, *ends)


@pytest.mark.parametrize("text", ["What is <|mdm_mask|>?", "<|eot_id|><|eot_id|>", "<|eot_id|"])
def test_control_text_in_a_message_stays_text(tmp_path, text):
    tokenizer = load(tmp_path, SETTINGS["chat_template"])
    (plain,), (bare,) = tokenizer.encode_text([text]), tokenizer.encode_text([text], bare=True)
    assert max(plain) < 256 and tokenizer.decode(bare) == text
    (ids,) = tokenizer.encode([tokenizer.chat([{"role": "user", "content": text}])], bare=True)
    assert [i for i in ids if i >= 256] == [BOS, START, END, EOT, START, END]
    assert text in tokenizer.decode(ids)
    for chat in (True, False):
        (prompt,) = tokenizer.encode_prompts([text], chat, opening=text)
        assert MASK not in prompt and prompt[-len(bare) :] == bare


def test_marks_in_a_message_are_replaced(tmp_path):
    tokenizer = load(tmp_path, CONTENT)
    (ids,) = tokenizer.encode_prompts(["\ufdd1<|eot_id|>\ufdd0"], chat=True, opening="")
    assert tokenizer.decode(ids) == "\ufffd<|eot_id|>\ufffd"


def test_a_template_that_writes_mask_is_refused(tmp_path):
    tokenizer = load(tmp_path, CONTENT + "<|mdm_mask|>")
    with pytest.raises(MdmError, match="writes MASK into the prompt"):
        tokenizer.encode_prompts(["Why?"], chat=True, opening="")


@pytest.mark.parametrize("chat", [True, False])
def test_half_a_surrogate_pair_is_refused(tmp_path, chat):
    tokenizer = load(tmp_path, CONTENT)
    with pytest.raises(MdmError, match="a text is no Unicode"):
        tokenizer.encode_prompts(["\ud83d"], chat, opening="")
