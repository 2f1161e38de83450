"""The tokenizer that a published checkpoint carries, checked against its config.json."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdm_jax.checksums import text_digest
from mdm_jax.denoisers.pretrained.checkpoints import PublishedInfo, read_info
from mdm_jax.errors import MdmError
from mdm_jax.external_files import expand, read_json
from mdm_jax.tasks.base import Vocabulary
from mdm_jax.tasks.prompted.chat import read_template, render
from mdm_jax.tasks.prompted.control_text import quote, split_quoted
from mdm_jax.tasks.prompted.tokenizer_files import (
    read_settings,
    read_tokenizer,
    special_names,
    token_text,
)

if TYPE_CHECKING:
    import tokenizers

_CHECKED = ("eos_token", "pad_token", "mask_token")  # Dream's files disagree on bos
_ANSWER = "\ufdd2"  # stands for an answer; a noncharacter, so that no template writes it


class TextTokenizer:
    """Text to the ids of a checkpoint and back.

    Attributes:
      vocabulary: the ids of the denoiser; those without a token are `unused`, and a response ends at
        EOS or at the end of the assistant's turn.
      max_length: most positions of a canvas.
      names: texts of the special tokens by what they are for.

    Raises:
      MdmError: tokenizer and config.json speak of different ids.
    """

    def __init__(
        self,
        inner: "tokenizers.Tokenizer",
        info: PublishedInfo,
        settings: dict[str, Any],
        where: Path,
    ):
        self.inner, self.where = inner, where
        self.names = special_names(settings)
        self.template = read_template(where, settings)
        self._further = [token_text(t) for t in settings.get("additional_special_tokens") or ()]
        added = inner.get_added_tokens_decoder()
        self._special = {token.content: i for i, token in added.items() if token.special}
        self._check_names(info)
        self._check_mask(info, added)
        self.vocabulary = self._vocabulary(info)
        self.max_length = info.max_length
        self._never = {info.mask_id, *self.vocabulary.unused}

    def _check_names(self, info: PublishedInfo) -> None:
        for name in _CHECKED:
            text, there = self.names.get(name), info.published.get(f"{name}_id")
            here = None if text is None else self.inner.token_to_id(text)
            ids = there if isinstance(there, list) else [there]
            if text is not None and (here is None or (there is not None and here not in ids)):
                raise MdmError(
                    f"{self.where}: {name} is {text!r} in tokenizer_config.json, which has id {here} "
                    f"in the tokenizer, but {name}_id is {there} in config.json: the files are of "
                    "different checkpoints"
                )

    def _check_mask(self, info: PublishedInfo, added: Mapping[int, Any]) -> None:
        token = self.inner.id_to_token(info.mask_id)
        if token is not None and not (info.mask_id in added and added[info.mask_id].special):
            raise MdmError(
                f"{self.where}: mask_token_id {info.mask_id} of config.json is the ordinary token "
                f"{token!r} of the tokenizer; MASK must be a special token, or none of its ids"
            )

    def _vocabulary(self, info: PublishedInfo) -> Vocabulary:
        used = set(self.inner.get_vocab(with_added_tokens=True).values())
        beyond = used - {info.mask_id} - set(range(info.vocab))
        if beyond:
            raise MdmError(
                f"{self.where}: the tokenizer has ids up to {max(beyond)}, but the denoiser only "
                f"{info.vocab}: the files are of different checkpoints"
            )
        eos = info.eos_id
        if eos is None and "eos_token" in self.names:
            eos = self.inner.token_to_id(self.names["eos_token"])
        if eos not in used:
            raise MdmError(
                f"{self.where}: eos_token_id {eos} is no token of the tokenizer: correct it in "
                "config.json"
            )
        unused = tuple(sorted(set(range(info.vocab)) - used - {info.mask_id}))
        ends = self._turn_ends(info) & used - {eos, info.mask_id}
        return Vocabulary(info.vocab, eos, info.mask_id, info.pad_id, unused, tuple(sorted(ends)))

    def _turn_ends(self, info: PublishedInfo) -> set[int]:
        """Ids that end a response: those of the configuration, and what the template puts after one."""
        path = self.where / "generation_config.json"
        generation = read_json(path) if path.is_file() else {}
        listed = generation.get("eos_token_id") if isinstance(generation, dict) else None
        ends = {i for ids in (listed, info.published.get("eos_token_id")) for i in _as_list(ids)}
        if self.template is None:
            return ends
        said = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _ANSWER}]
        try:
            after = self._render(said, is_prompt=False).partition(_ANSWER)[2]
        except MdmError:  # a template for prompts alone
            return ends
        ids = self.encode([after], bare=True)[0]
        return ends | set([i for i in ids if i in self._special.values()][:1])

    def identity(self) -> dict[str, str]:
        """Digests of the tokenizer and of the chat template."""
        return {
            "tokenizer": text_digest(self.inner.to_str()),
            "chat_template": text_digest(self.template or ""),
        }

    def encode_prompts(self, texts: Sequence[str], chat: bool, opening: str) -> list[list[int]]:
        """Ids of prompts: each text as a user's turn or plain, then the opening of the answer.

        Raises:
          MdmError: MASK is among them, which only the chat template can have written.
        """
        if chat:
            turns = [self.chat([{"role": "user", "content": text}]) for text in texts]
            prompts = self.encode(
                [turn + quote(opening, self._special) for turn in turns], bare=True
            )
        else:
            prompts = self.encode_text([text + opening for text in texts])
        if any(self.vocabulary.mask_id in prompt for prompt in prompts):
            raise MdmError(f"the chat template of {self.where} writes MASK into the prompt")
        return prompts

    def encode(self, texts: Sequence[str], bare: bool = False) -> list[list[int]]:
        """Ids of each text; names of special tokens become those tokens, where `chat` has not quoted
        them.

        Args:
          bare: without what the tokenizer puts around a text (a beginning of sequence, if anything),
            for texts of `chat`, which have their own.
        """
        pieces = [split_quoted(text) for text in texts]  # unquoted, quoted, unquoted, ...
        first = self._encode([row[0] for row in pieces], around=not bare, special=True)
        later = iter(self._encode([x for row in pieces for x in row[2::2]], False, special=True))
        quoted = iter(self._encode([x for row in pieces for x in row[1::2]], False, special=False))
        return [
            ids + [i for n in range(1, len(row)) for i in next(quoted if n % 2 else later)]
            for ids, row in zip(first, pieces, strict=True)
        ]

    def encode_text(self, texts: Sequence[str], bare: bool = False) -> list[list[int]]:
        """The same with names of special tokens as text like any other."""
        return self._encode(texts, around=not bare, special=False)

    def _encode(self, texts: Sequence[str], around: bool, special: bool) -> list[list[int]]:
        self.inner.encode_special_tokens = not special  # the library's name for "as text"
        try:
            encodings = self.inner.encode_batch(list(texts), add_special_tokens=around)
        except (TypeError, UnicodeError) as error:  # half a surrogate pair
            raise MdmError(f"a text is no Unicode, so it cannot be encoded: {error}") from error
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Sequence[int], special: bool = False) -> str:
        """The text of ids that are tokens, with or without the special ones."""
        return self.inner.decode(list(ids), skip_special_tokens=not special)

    def is_text(self, ids: Sequence[int]) -> bool:
        """Whether every id is a token, and none is MASK."""
        return all(0 <= i < self.vocabulary.size and i not in self._never for i in ids)

    def chat(self, messages: Sequence[dict[str, str]]) -> str:
        """The conversation as the checkpoint's own template writes it, up to the answer.

        Names of special tokens in the messages are quoted for `encode`.

        Raises:
          MdmError: there is no template, or it fails.
        """
        if self.template is None:
            raise MdmError(
                f"{self.where} has no chat template (chat_template in tokenizer_config.json, or "
                "chat_template.jinja): use plain prompts (--task.no-chat)"
            )
        quoted = [{**one, "content": quote(one["content"], self._special)} for one in messages]
        return self._render(quoted, is_prompt=True)

    def _render(self, messages: Sequence[dict[str, str]], is_prompt: bool) -> str:
        given = {**self.names, "additional_special_tokens": self._further}
        given["add_generation_prompt"] = is_prompt
        return render(self.template, messages, given, str(self.where))


def _as_list(ids: Any) -> list[int]:
    """Token ids that a configuration gives as one, several or none."""
    return ids if isinstance(ids, list) else [] if ids is None else [ids]


def load_text_tokenizer(directory: str | Path) -> TextTokenizer:
    """The tokenizer of a published checkpoint.

    Reads config.json, tokenizer_config.json, special_tokens_map.json and generation_config.json (if
    any), and tokenizer.json, or vocab.json with merges.txt, which is what Dream is published with.

    Raises:
      MdmError: a file is missing or damaged, or its special ids are not those of config.json.
    """
    where = expand(directory)
    info, settings = read_info(where), read_settings(where)
    return TextTokenizer(read_tokenizer(where, settings), info, settings, where)
