"""Checking a published config.json: what is read, what must be as it is, what does not matter."""

from collections.abc import Collection, Mapping
from typing import Any

# written by the libraries that trained and stored a model; nothing that a forward pass depends on
BOOKKEEPING = frozenset(
    {
        "_name_or_path",
        "architectures",
        "attention_dropout",
        "auto_map",
        "bos_token_id",
        "dtype",
        "embedding_dropout",
        "init_cutoff_factor",
        "init_device",
        "init_fn",
        "init_std",
        "initializer_range",
        "precision",
        "residual_dropout",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)


def check_fields(
    published: Mapping[str, Any],
    *,
    read: Collection[str],
    fixed: Mapping[str, tuple],
    harmless: Collection[str] = (),
) -> None:
    """Raise ValueError unless every field is understood.

    Args:
      read: fields whose values are used; all must be there.
      fixed: fields that may have only these values, where they are there at all.
      harmless: further fields that change nothing.
    """
    missing = sorted(set(read) - published.keys())
    if missing:
        raise ValueError(f"config.json lacks {', '.join(missing)}")
    for name in read:
        if not isinstance(published[name], int | float):
            raise ValueError(f"config.json says {name} = {published[name]!r}; it must be a number")
    kv_cache = {*read, *fixed, *harmless, *BOOKKEEPING}
    unknown = {name: published[name] for name in sorted(published.keys() - kv_cache)}
    if unknown:
        raise ValueError(f"config.json has fields that are not understood: {unknown}")
    for name, values in fixed.items():
        if name in published and published[name] not in values:
            admitted = " or ".join(map(repr, values))
            raise ValueError(
                f"config.json says {name} = {published[name]!r}; only {admitted} is implemented"
            )
