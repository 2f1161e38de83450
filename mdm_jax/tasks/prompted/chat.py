"""Chat templates: the file format of published checkpoints, rendered where it can do no harm."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn


def read_template(directory: Path, settings: Mapping) -> str | None:
    """The chat template beside a tokenizer: chat_template.jinja, or in tokenizer_config.json.

    Where there are several by name, the one called "default".
    """
    path = directory / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    found = settings.get("chat_template")
    if isinstance(found, list):
        found = {one["name"]: one["template"] for one in found}.get("default")
    return found


def render(
    template: str, messages: Sequence[Mapping[str, str]], tokens: Mapping[str, str], where: str
) -> str:
    """The conversation as one text that ends where the assistant's answer begins.

    Templates come with downloaded files, so they run in Jinja's sandbox. Block lines leave no blanks,
    as in the library that defines the format.

    Args:
      template: Jinja source.
      messages: {"role": ..., "content": ...} each.
      tokens: texts of the special tokens that a template may name (bos_token, ...).
      where: named in errors.

    Raises:
      ValueError: the template cannot be parsed, refuses these messages, or tries what it may not.
    """
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> NoReturn:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    try:
        return environment.from_string(template).render(
            messages=list(messages), add_generation_prompt=True, **tokens
        )
    except Exception as error:  # a template can raise anything
        raise ValueError(f"the chat template of {where} failed: {error}") from error
