"""Chat templates of published checkpoints, rendered in Jinja's sandbox.

What a template may use is what the library that defines the format, transformers, gives it.
"""

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mdm_jax.errors import MdmError
from mdm_jax.external_files import read_text


def read_template(directory: Path, settings: Mapping[str, Any]) -> str | None:
    """The chat template beside a tokenizer: chat_template.jinja, or in tokenizer_config.json.

    Where there are several by name, the one called "default".
    """
    path = directory / "chat_template.jinja"
    if path.is_file():
        return read_text(path)
    found = settings.get("chat_template")
    if isinstance(found, list):
        found = {one["name"]: one["template"] for one in found}.get("default")
    return found


def render(
    template: str, messages: Sequence[Mapping[str, str]], given: Mapping[str, Any], where: str
) -> str:
    """The conversation as one text.

    Templates come with downloaded files, so they run in a sandbox. Block lines leave no blanks.
    `{% break %}`, `{% continue %}` and `{% generation %}` are understood.

    Args:
      template: Jinja source.
      messages: {"role": ..., "content": ...} each.
      given: further variables: add_generation_prompt, texts of special tokens (bos_token, ...).
      where: named in errors.

    Raises:
      MdmError: the template cannot be parsed, refuses these messages, or tries what it may not.
    """
    try:
        compiled = _environment().from_string(template)
        return compiled.render(messages=list(messages), tools=None, documents=None, **given)
    except Exception as error:  # a template can raise anything
        raise MdmError(f"the chat template of {where} failed: {error}") from error


def _environment() -> Any:
    from jinja2 import TemplateError
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}...{% endgeneration %}`, which marks what an assistant said: its body."""

        tags = frozenset({"generation"})

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> NoReturn:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda format: datetime.datetime.now().strftime(format)
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without the escapes for HTML of Jinja's own filter."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
