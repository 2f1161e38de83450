"""Directories as checkpoints are published: config.json, a byte-level tokenizer, a chat template."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from mdm_jax.denoisers.base import bind
from mdm_jax.denoisers.pretrained import checkpoints as pretrained
from mdm_jax.denoisers.pretrained.llada import LLADA
from mdm_jax.denoisers.pretrained.network import PretrainedTransformer

EOS, MASK, BOS, EOT, START, END = 300, 310, 301, 302, 303, 304
VOCAB = 320  # rows of the head, some of them beyond the tokenizer
CONFIG = {
    "model_type": "llada",
    "d_model": 16,
    "n_heads": 2,
    "n_layers": 1,
    "mlp_hidden_size": 16,
    "max_sequence_length": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "vocab_size": VOCAB,
    "mask_token_id": MASK,
    "eos_token_id": EOS,
    "pad_token_id": EOS,
}
SPECIAL = {
    "<|endoftext|>": EOS,
    "<|startoftext|>": BOS,
    "<|eot_id|>": EOT,
    "<|start_header_id|>": START,
    "<|end_header_id|>": END,
    "<|mdm_mask|>": MASK,
}
# LLaDA-Instruct: a header, two new lines, the trimmed text, the end of the turn
LLADA_TEMPLATE = (
    "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "<|start_header_id|>{{ message['role'] }}<|end_header_id|>{{ '\n\n' + message['content'] | trim }}"
    "<|eot_id|>{% endfor %}<|start_header_id|>assistant<|end_header_id|>{{ '\n\n' }}"
)
# Dream-Instruct: a system turn unless there is one, one line each
DREAM_TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' %}\n"
    "    {{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}\n"
    "{%- endif %}\n"
    "{%- for message in messages %}\n"
    "    {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "    {{- '<|im_start|>assistant\n' }}\n"
    "{%- endif %}\n"
)
SETTINGS = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "pad_token": {"content": "<|endoftext|>", "special": True},
    "chat_template": LLADA_TEMPLATE,
}


def byte_tokenizer(special=SPECIAL):
    """One id per byte, 0..255, and special tokens where they are wanted."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {sign: number for number, sign in enumerate(alphabet)} | special
    inner = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    return inner


def write_files(directory, config=CONFIG, settings=SETTINGS, inner=None):
    """Everything but the weights; returns the directory."""
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    (inner or byte_tokenizer()).save(str(directory / "tokenizer.json"))
    return directory


def write_checkpoint(directory, seed=0, dtype="float32"):
    """The same with random weights, large enough for a say in what is generated."""
    write_files(directory)
    module = PretrainedTransformer(replace(LLADA.config(CONFIG), dtype=dtype))
    params = module.init(jax.random.key(seed), jnp.zeros(2, int), jnp.ones(2, bool))["params"]
    params = jax.tree.map(lambda x: 8 * x if x.ndim > 1 else x, params)
    pretrained.save(directory, bind(module, params), pretrained.read_info(directory))
    return directory
