"""One API page for each folder of mdm_jax, and docstrings made ready for Sphinx."""

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.autodoc.mock import mock as missing_packages

import mdm_jax

PAGES = "api"
CODE = re.compile(r"(`[^`]+`)")
NAME = re.compile(r"`[A-Za-z_][\w.]*`")


def write_pages(app: Sphinx) -> None:
    """Write api/FOLDER.rst for each folder, from the modules that are there."""
    folder = Path(app.srcdir) / PAGES
    with missing_packages(app.config.autodoc_mock_imports):
        for package in sorted(m.name for m in pkgutil.iter_modules(mdm_jax.__path__) if m.ispkg):
            text = "\n".join(_page(f"mdm_jax.{package}"))
            write(folder / f"{package}.rst", text)
    write(folder / "mdm_jax.rst", "\n".join(_top_page()))


def write(path: Path, text: str) -> None:
    """Write a file unless it says the same already, so that nothing is read again in vain."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def _top_page() -> Iterator[str]:
    """The page of the package: what it exports, and the modules that are in no folder."""
    yield from (*heading("mdm_jax", "="), "", inspect.getdoc(mdm_jax) or "", "")
    for name in getattr(mdm_jax, "__all__", ()):
        member = getattr(mdm_jax, name)
        first = inspect.getdoc(member).partition("\n\n")[0].replace("\n", " ")
        yield from (
            f":py:obj:`mdm_jax.{name} <{member.__module__}.{name}>`",
            f"   {escaped(first)}",
            "",
        )
    modules = [m.name for m in pkgutil.iter_modules(mdm_jax.__path__) if not m.ispkg]
    yield from _sections([f"mdm_jax.{name}" for name in modules])


def _page(package: str) -> Iterator[str]:
    """The page of one folder: what it is, its modules, and each module as a section."""
    yield from heading(package, "=")
    yield from ("", inspect.getdoc(importlib.import_module(package)) or "", "")
    modules = [m.name for m in pkgutil.walk_packages(_module(package).__path__, f"{package}.")]
    yield from _sections(modules)


def _sections(modules: list[str]) -> Iterator[str]:
    """A section for each module that has something public in it."""
    for name in sorted(modules, key=lambda name: (name.count("."), name)):
        if _public(_module(name)):
            yield from (*heading(name.removeprefix("mdm_jax."), "-"), "")
            yield from (f".. automodule:: {name}", "   :members:", "")


def _module(name: str) -> ModuleType:
    return importlib.import_module(name)


def _public(module: ModuleType) -> bool:
    """Whether a module defines anything that its page would show."""
    mine = (v for n, v in vars(module).items() if not n.startswith("_"))
    return any(getattr(v, "__module__", None) == module.__name__ for v in mine)


def heading(text: str, line: str) -> tuple[str, str]:
    """A title with the line under it."""
    return text, line * len(text)


def prepare_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Docstrings are plain text with code in backticks: keep * | _ from meaning anything else, and
    add what the comments beside the fields of a class say.
    """
    documented = "\n".join(lines)
    lines[:] = [escaped(line) for line in lines]
    if what != "class" or "Attributes:" in documented or "Args:" in documented:
        return
    if fields := _field_comments(obj):
        lines += ["Attributes:", *(f"  {field}: {escaped(text)}" for field, text in fields), ""]


def escaped(line: str) -> str:
    """A line whose * | and trailing _ are taken as they stand, outside of backticks.

    What stands in backticks becomes a link where it is a name, and code where it is not.
    """
    parts = CODE.split(line)
    for place, part in enumerate(parts):
        if place % 2 == 0:
            part = re.sub(r"([*|]|_(?!\w))", r"\\\1", part)
            glued = place and re.match(r"\w", part)  # the s of `x`s
            parts[place] = "\\ " + part if glued else part
        elif not NAME.fullmatch(part):
            parts[place] = f"`{part}`"
    return "".join(parts)


@cache
def _field_comments(kind: type) -> tuple[tuple[str, str], ...]:
    """The annotated fields of a class, each with the comment that follows or precedes it."""
    try:
        return tuple(_comments_in(textwrap.dedent(inspect.getsource(kind))))
    except (OSError, TypeError):
        return ()


def _comments_in(source: str) -> Iterator[tuple[str, str]]:
    """The same, from the source of the class."""
    rows = source.splitlines()
    for node in ast.parse(source).body[0].body:
        if isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation):
            after = [
                row.partition("#")[2].strip() for row in rows[node.lineno - 1 : node.end_lineno]
            ]
            text = " ".join(filter(None, after)) or _comment_above(rows, node.lineno - 2)
            if text:
                yield node.target.id, text


def _comment_above(rows: list[str], row: int) -> str:
    """The comment lines that end at `row`."""
    found = []
    while row >= 0 and rows[row].strip().startswith("#"):
        found.insert(0, rows[row].strip().lstrip("# "))
        row -= 1
    return " ".join(found)


def skip_field(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out the fields of named tuples: their class says what they are."""
    return True if (getattr(obj, "__doc__", "") or "").startswith("Alias for field") else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the pages before the sources are looked for."""
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", prepare_docstring, priority=100)  # before napoleon
    app.connect("autodoc-skip-member", skip_field)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
