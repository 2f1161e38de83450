"""A byte-level BPE tokenizer with single digits, an EOS and a separator."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mdm_jax.errors import MdmError
from mdm_jax.external_files import expand, read_text

if TYPE_CHECKING:
    import tokenizers

EOS, SEPARATOR = "<eos>", "<sep>"
_SMALLEST = 256 + 2  # every byte, EOS and the separator


class BpeTokenizer:
    """Text to ids and back without loss; ids are 0..size-1, EOS and separator among them.

    The names of the two special tokens are ordinary text when they occur in a text.
    """

    def __init__(self, inner: "tokenizers.Tokenizer"):
        missing = [name for name in (EOS, SEPARATOR) if inner.token_to_id(name) is None]
        if missing:
            raise MdmError(f"the tokenizer has no token {' and no '.join(missing)}")
        inner.encode_special_tokens = True
        self.inner = inner
        self.size: int = inner.get_vocab_size()
        self.eos_id: int = inner.token_to_id(EOS)
        self.separator_id: int = inner.token_to_id(SEPARATOR)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without special tokens."""
        return [encoding.ids for encoding in self.inner.encode_batch(list(texts))]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids below `size`; special tokens are left out."""
        return self.inner.decode(list(ids))

    def save(self, path: str | Path) -> None:
        """Writes the tokenizer.json of the `tokenizers` library."""
        self.inner.save(str(path))


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> BpeTokenizer:
    """The BPE tokenizer of `texts`, the same one every time; smaller where merges run out."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    if vocab_size < _SMALLEST:
        raise MdmError(f"vocab_size {vocab_size} must be at least {_SMALLEST}: all bytes, 2 more")
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOS, SEPARATOR],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    return BpeTokenizer(inner)


def load_tokenizer(path: str | Path) -> BpeTokenizer:
    """The tokenizer that `save` wrote; a file that is none is a MdmError."""
    import tokenizers

    file = expand(path)
    if not file.is_file():
        raise MdmError(f"tokenizer_file {file} does not exist")
    text = read_text(file)
    try:
        return BpeTokenizer(tokenizers.Tokenizer.from_str(text))
    except Exception as error:  # the library raises bare Exception
        raise MdmError(f"{file} is not a tokenizer.json that this task wrote: {error}") from error
