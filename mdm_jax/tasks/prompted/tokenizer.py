"""The tokenizer that a published checkpoint carries, checked against its config.json."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdm_jax.denoisers.pretrained.checkpoints import PublishedInfo, read_info
from mdm_jax.tasks.base import Vocabulary
from mdm_jax.tasks.prompted.chat import read_template, render

if TYPE_CHECKING:
    import tokenizers

# how Qwen2's tokenizer, which Dream's is, cuts a text before merging bytes
_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_NAMED = ("bos_token", "eos_token", "pad_token", "mask_token")
_CHECKED = ("eos_token", "pad_token", "mask_token")  # Dream's files disagree on bos


class TextTokenizer:
    """Text to the ids of a checkpoint and back.

    Attributes:
      vocabulary: the ids of the denoiser; those without a token are `unused`.
      max_length: most positions of a canvas.
      names: texts of the special tokens by what they are for.

    Raises:
      ValueError: tokenizer and config.json speak of different ids.
    """

    def __init__(
        self, inner: "tokenizers.Tokenizer", info: PublishedInfo, settings: dict, where: Path
    ):
        self.inner, self.where = inner, where
        self.names = {name: _text_of(settings[name]) for name in _NAMED if settings.get(name)}
        self.template = read_template(where, settings)
        self._check_names(info)
        self._check_mask(info)
        self.vocabulary = self._vocabulary(info)
        self.max_length = info.max_length
        self._never = {info.mask_id, *self.vocabulary.unused}

    def _check_names(self, info: PublishedInfo) -> None:
        for name in _CHECKED:
            text, there = self.names.get(name), info.published.get(f"{name}_id")
            here = None if text is None else self.inner.token_to_id(text)
            if text is not None and (here is None or there not in (None, here)):
                raise ValueError(
                    f"{self.where}: {name} is {text!r} in tokenizer_config.json, which has id {here} "
                    f"in the tokenizer, but {name}_id is {there} in config.json: the files are of "
                    "different checkpoints"
                )

    def _check_mask(self, info: PublishedInfo) -> None:
        token = self.inner.id_to_token(info.mask_id)
        added = self.inner.get_added_tokens_decoder().get(info.mask_id)
        if token is not None and not (added and added.special):
            raise ValueError(
                f"{self.where}: mask_token_id {info.mask_id} of config.json is the ordinary token "
                f"{token!r} of the tokenizer; MASK must be a special token, or none of its ids"
            )

    def _vocabulary(self, info: PublishedInfo) -> Vocabulary:
        used = set(self.inner.get_vocab(with_added_tokens=True).values())
        beyond = used - {info.mask_id} - set(range(info.vocab))
        if beyond:
            raise ValueError(
                f"{self.where}: the tokenizer has ids up to {max(beyond)}, but the denoiser only "
                f"{info.vocab}: the files are of different checkpoints"
            )
        eos = info.eos_id
        if eos is None and "eos_token" in self.names:
            eos = self.inner.token_to_id(self.names["eos_token"])
        if eos not in used:
            raise ValueError(
                f"{self.where}: eos_token_id {eos} is no token of the tokenizer: correct it in "
                "config.json"
            )
        unused = tuple(sorted(set(range(info.vocab)) - used - {info.mask_id}))
        return Vocabulary(info.vocab, eos, info.mask_id, info.pad_id, unused)

    def encode(self, texts: Sequence[str], bare: bool = False) -> list[list[int]]:
        """Ids of each text; names of special tokens in it become those tokens.

        Args:
          bare: without what the tokenizer puts around a text (a beginning of sequence, if anything).
        """
        encodings = self.inner.encode_batch(list(texts), add_special_tokens=not bare)
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Sequence[int], special: bool = False) -> str:
        """The text of ids that are tokens, with or without the special ones."""
        return self.inner.decode(list(ids), skip_special_tokens=not special)

    def is_text(self, ids: Sequence[int]) -> bool:
        """Whether every id is a token, and none is MASK."""
        return all(0 <= i < self.vocabulary.size and i not in self._never for i in ids)

    def chat(self, messages: Sequence[dict[str, str]]) -> str:
        """The conversation as the checkpoint's own template writes it, up to the answer.

        Raises:
          ValueError: there is no template.
        """
        if self.template is None:
            raise ValueError(
                f"{self.where} has no chat template (chat_template in tokenizer_config.json, or "
                "chat_template.jinja): use plain prompts (--task.no-chat)"
            )
        return render(self.template, messages, self.names, str(self.where))


def load_text_tokenizer(directory: str | Path) -> TextTokenizer:
    """The tokenizer of a published checkpoint.

    Reads config.json, tokenizer_config.json (if any), and tokenizer.json, or vocab.json with
    merges.txt, which is what Dream is published with.

    Raises:
      ValueError: a file is missing or damaged, or its special ids are not those of config.json.
    """
    where = Path(directory).expanduser()
    info, settings = read_info(where), _settings(where)
    return TextTokenizer(_inner(where, settings), info, settings, where)


def _inner(where: Path, settings: dict) -> "tokenizers.Tokenizer":
    import tokenizers

    path = where / "tokenizer.json"
    try:
        if path.is_file():
            return tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
        if (where / "vocab.json").is_file() and (where / "merges.txt").is_file():
            return _qwen_tokenizer(where, settings)
    except Exception as error:  # the library raises bare Exception
        raise ValueError(f"{where}: the tokenizer cannot be read: {error}") from error
    raise ValueError(
        f"{where} has no tokenizer.json, nor vocab.json with merges.txt: copy the tokenizer's files "
        "of the checkpoint into it"
    )


def _qwen_tokenizer(where: Path, settings: dict) -> "tokenizers.Tokenizer":
    """Byte-level BPE from vocab.json and merges.txt, with the added tokens of tokenizer_config.json."""
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
    )

    files = str(where / "vocab.json"), str(where / "merges.txt")
    inner = Tokenizer(models.BPE.from_file(*files))
    inner.normalizer = normalizers.NFC()
    text_record = pre_tokenizers.Split(Regex(_QWEN_WORDS), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.pre_tokenizer = pre_tokenizers.Sequence([text_record, to_bytes])
    inner.decoder = decoders.ByteLevel()
    for number, token in sorted(_added(settings), key=lambda item: item[0]):
        inner.add_tokens([AddedToken(token["content"], special=token["special"], normalized=False)])
        if inner.token_to_id(token["content"]) != number:
            raise ValueError(f"added token {token['content']!r} cannot have id {number}")
    return inner


def _added(settings: dict) -> list[tuple[int, dict]]:
    return [(int(i), token) for i, token in settings.get("added_tokens_decoder", {}).items()]


def _text_of(token: str | dict[str, Any]) -> str:
    """A special token's text, however tokenizer_config.json writes it."""
    return token["content"] if isinstance(token, dict) else token


def _settings(where: Path) -> dict:
    """tokenizer_config.json, where there is one."""
    path = where / "tokenizer_config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
