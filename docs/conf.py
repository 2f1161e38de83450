"""Settings of the documentation site: sphinx-build -W -b html docs docs/_build."""

import os
import sys
from importlib import metadata
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS / "_ext"), str(DOCS.parent)]
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ["PYTHONPATH"] = os.pathsep.join([str(DOCS.parent), os.environ.get("PYTHONPATH", "")])

import jax  # noqa: E402

jax.Array.__name__ = "Array"  # as annotations write it

project = "mdm_jax"
copyright = "2026, the mdm_jax authors"
author = "the mdm_jax authors"
release = version = metadata.version("mdm_jax")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_nb",
    "sphinx_copybutton",
    "api_pages",
    "command_line",
    "mathml",
]
exclude_patterns = ["_build", "_ext", "**.ipynb_checkpoints"]
nitpicky = False
default_role = "py:obj"  # `name` in a docstring is a link where there is something to link to

html_theme = "furo"
html_title = "mdm_jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "navigation_with_keys": True,
}
smartquotes = False  # -- stays -- in the names of flags
html_copy_source = False
html_show_copyright = False
pygments_style = "friendly"
html_math_renderer = "mathml"

autodoc_member_order = "bysource"
autodoc_mock_imports = ["lm_eval"]  # an extra
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # types are in the signature
napoleon_use_rtype = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "attrs_inline"]
myst_heading_anchors = 3
nb_execution_mode = "cache"  # each notebook once; `-D nb_execution_mode=off` for a quick look
nb_execution_timeout = 900
nb_execution_raise_on_error = True
nb_merge_streams = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def setup(app):
    """Pictures of the page on the idea, the notebooks, short names kept whole, quick pages of source."""
    import figures
    from api_pages import write
    from docutils import nodes

    def prepare(app):
        figures.draw_all(DOCS / "_figures")
        for notebook in (DOCS.parent / "notebooks").glob("*.ipynb"):
            write(DOCS / "notebooks" / notebook.name, notebook.read_text())

    def keep_whole(app, doctree):
        for literal in doctree.findall(nodes.literal):
            if len(literal.astext()) <= 32:  # what fits on a line of a phone
                literal["classes"].append("whole")

    def leave_out_tree(app, page, template, context, doctree):
        if page.startswith("_modules/"):  # drawn for each page of source, it is half of the build
            context["toctree"] = lambda **_: ""

    app.connect("builder-inited", prepare)
    app.connect("html-page-context", leave_out_tree, priority=100)
    app.connect("doctree-read", keep_whole)
