"""Files of a published tokenizer: tokenizer.json, or vocab.json with merges.txt, and their settings."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdm_jax.errors import MdmError
from mdm_jax.external_files import check_not_pointer, read_json, read_text

if TYPE_CHECKING:
    import tokenizers

# how Qwen2's tokenizer, which Dream's is, splits a text before merging bytes
_QWEN_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def read_settings(directory: Path) -> dict[str, Any]:
    """tokenizer_config.json, with what only special_tokens_map.json says; empty where neither is.

    Raises:
      MdmError: one of them is damaged.
    """
    found: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = directory / name
        content = read_json(path) if path.is_file() else {}
        if not isinstance(content, dict):
            raise MdmError(f"{path} is damaged: it is no object")
        found |= content
    return found


def special_names(settings: dict[str, Any]) -> dict[str, str]:
    """The text of each special token by what it is for: bos_token, eos_token, unk_token, ..."""
    tokens = {
        name: token_text(value) for name, value in settings.items() if name.endswith("_token")
    }
    return {name: text for name, text in tokens.items() if text}


def token_text(token: Any) -> str | None:
    """A special token's text, however the settings write it; None: it is none."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def read_tokenizer(directory: Path, settings: dict[str, Any]) -> "tokenizers.Tokenizer":
    """The tokenizer itself.

    Raises:
      MdmError: its files are missing, damaged, or pointers of git-lfs.
    """
    import tokenizers

    path = directory / "tokenizer.json"
    pair = directory / "vocab.json", directory / "merges.txt"
    try:
        if path.is_file():
            return tokenizers.Tokenizer.from_str(read_text(path))
        if all(file.is_file() for file in pair):
            return _qwen_tokenizer(pair, settings)
    except MdmError:
        raise
    except Exception as error:  # the library raises bare Exception
        raise MdmError(f"{directory}: the tokenizer cannot be read: {error}") from error
    raise MdmError(
        f"{directory} has no tokenizer.json, nor vocab.json with merges.txt: copy the tokenizer's "
        "files of the checkpoint into it"
    )


def _qwen_tokenizer(files: tuple[Path, Path], settings: dict[str, Any]) -> "tokenizers.Tokenizer":
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

    for file in files:
        check_not_pointer(file)
    inner = Tokenizer(models.BPE.from_file(*map(str, files)))
    inner.normalizer = normalizers.NFC()
    pieces = pre_tokenizers.Split(Regex(_QWEN_PIECES), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.pre_tokenizer = pre_tokenizers.Sequence([pieces, to_bytes])
    inner.decoder = decoders.ByteLevel()
    added = {int(i): token for i, token in settings.get("added_tokens_decoder", {}).items()}
    for number, token in sorted(added.items()):
        inner.add_tokens([AddedToken(token["content"], special=token["special"], normalized=False)])
        if inner.token_to_id(token["content"]) != number:
            raise MdmError(f"added token {token['content']!r} cannot have id {number}")
    return inner
