"""The command line of all experiments: a config from words, and defaults that depend on them.

`--preset NAME`, `--task NAME` and `--run DIR` (or `--denoiser DIR`, whose run says which task it was
trained on) choose the defaults that the other flags change, wherever they stand. Which flags a task has
is known only then. So the command line is parsed twice: for these flags alone, then as a whole.
"""

import io
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import fields, make_dataclass, replace
from textwrap import shorten
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import tyro
from rich.text import Text

from experiments._cli.fields import REGISTRY
from experiments._cli.options import Options, Source
from mdm_jax.errors import MdmError
from mdm_jax.runs import sampler_flags
from mdm_jax.runs.sampler_flags import SamplerFlags
from mdm_jax.runs.task_choice import choose_task
from mdm_jax.tasks import PROMPTED, TASKS

C = TypeVar("C")


def parse(
    config_type: type[C],
    words: Sequence[str],
    doc: str | None = None,
    presets: Mapping[str, C] | None = None,
) -> C:
    """The config that a command line describes.

    A config class with `sampler_flags = True` accepts the flags of `SamplerFlags` too.

    Raises:
      MdmError: it describes none.
    """
    words = [re.sub(":iid$", ":ancestral", word) for word in words]  # its other name in the field
    choices = _choices(config_type, presets or {})
    chosen = known(choices, words)
    default = presets[chosen.preset] if presets else config_type()
    if hasattr(chosen, "task"):
        source = known(Source, words)
        if source.run and source.denoiser:
            raise MdmError("give --run or --denoiser, not both")
        home, free = source.run or source.denoiser, hasattr(default, "prompt")
        default = replace(default, task=choose_task(chosen.task, home, default.task, free))
    parts: list[tuple[type, Any]] = [(config_type, default), (choices, choices())]
    if getattr(config_type, "sampler_flags", False):
        named = any(word.startswith(("policy:", "--policy.")) for word in words)
        parts[0] = config_type, sampler_flags.apply(known(SamplerFlags, words), default, named)
        flags = _flags_beside(config_type)
        parts.append((flags, flags()))
    kinds, defaults = zip(*parts, (Options, Options()), strict=True)
    side_by_side = tuple[tuple(Annotated[kind, tyro.conf.arg(name="")] for kind in kinds)]
    return _tyro(side_by_side, words, default=defaults, description=doc)[0]


def known(kind: type[C], words: Sequence[str]) -> C:
    """The flags of a dataclass among those of a command line; all others are left alone."""
    return _tyro(kind, words, return_unknown_args=True, add_help=False)[0]


def _flags_beside(config_type: type) -> type:
    """`SamplerFlags` without those that a config class has itself."""
    own, types = {each.name for each in fields(config_type)}, get_type_hints(SamplerFlags)
    flags = [(name, kind, None) for name, kind in types.items() if name not in own]
    named = {"__doc__": SamplerFlags.__doc__}
    return make_dataclass("SamplerFlags", flags, frozen=True, namespace=named)


def _choices(config_type: type, presets: Mapping[str, Any]) -> type:
    """A dataclass of the flags that choose defaults."""
    flags: list[tuple] = []
    if presets:
        help_text = "settings to start from, which the other flags change."
        names = Annotated[Literal[tuple(presets)], tyro.conf.arg(help=help_text)]
        flags.append(("preset", names, next(iter(presets))))
    if "task" in {each.name for each in fields(config_type)}:
        names = tyro.conf.arg(
            metavar="{" + ",".join(dict.fromkeys((*TASKS, *PROMPTED))) + "}",
            help=f"what to generate; its settings are the flags --task.X. {', '.join(PROMPTED)} give "
            "prompts for published checkpoints, for which this flag is required.",
        )
        flags.append(("task", Annotated[str | None, names], None))
    return make_dataclass("Choices", flags, frozen=True)


def _tyro(kind: Any, words: Sequence[str], **settings: Any) -> Any:
    """`tyro.cli`, with its boxed refusals as errors of one line."""
    box = io.StringIO()
    try:
        with redirect_stderr(box):
            return tyro.cli(
                kind,
                args=list(words),
                prog=_program(),
                config=(tyro.conf.CascadeSubcommandArgs,),
                registry=REGISTRY,
                **settings,
            )
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
        raise MdmError(_unboxed(box.getvalue())) from None


def _program() -> str:
    """The command as it was typed, without its flags."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name}" if spec else sys.argv[0]


def _unboxed(box: str) -> str:
    """The text of tyro's box on one line; the sections about --help are left out."""
    _title, *lines = Text.from_ansi(box).plain.splitlines()
    rule = re.compile("[ │╭╮╰╯─-]*")
    lines = ["" if rule.fullmatch(line) else line.strip("│ ") for line in lines]
    sections = (" ".join(text.split()) for text in "\n".join(lines).split("\n\n"))
    left_out = re.compile("helptext|^Available subcommands|^Arguments are applied")
    kept = "; ".join(text for text in sections if text and not left_out.search(text))
    return shorten(re.sub(r"^Error parsing (\d+(\.|: ))?", "", kept), 300, placeholder=" ...")
