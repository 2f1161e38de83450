"""The shape of the code, read from its sources: layers, no circles, small functions and entry points."""

import ast
import graphlib
import json
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
LIBRARY = sorted(ROOT.glob("mdm_jax/**/*.py"))
ENTRY_POINTS = sorted(ROOT.glob("experiments/*.py"))
EXPERIMENTS = sorted(ROOT.glob("experiments/**/*.py"))
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))

# the longest prefix that fits decides; a new module must be given a layer here
LAYERS = {
    "mdm_jax": 3,
    "mdm_jax.types": 0,
    "mdm_jax.errors": 0,
    "mdm_jax.chunks": 0,
    "mdm_jax.keys": 0,
    "mdm_jax.pytrees": 0,
    "mdm_jax.products": 0,
    "mdm_jax.streams": 0,
    "mdm_jax.diffusion": 1,
    "mdm_jax.denoisers": 1.5,
    "mdm_jax.denoisers.base": 1,
    "mdm_jax.denoisers.oracle": 1,
    "mdm_jax.denoisers.guidance": 1,
    "mdm_jax.denoisers.pretrained.checkpoints": 3,
    "mdm_jax.denoisers.pretrained.manifest": 3,
    "mdm_jax.denoisers.pretrained.tensor_files": 3,
    "mdm_jax.external_files": 3,
    "mdm_jax.checksums": 2,
    "mdm_jax.policies": 1,
    "mdm_jax.policies.networks": 1.5,
    "mdm_jax.policies.adaptive": 1.5,
    "mdm_jax.policies.pairwise.predicted": 1.5,
    "mdm_jax.sampling": 1,
    "mdm_jax.orders": 1,
    "mdm_jax.orders.fidelity": 1.5,
    "mdm_jax.orders.exact": 1.5,
    "mdm_jax.orders.calls": 1.5,
    "mdm_jax.orders.variational.posterior": 1.5,
    "mdm_jax.orders.variational.loss": 1.5,
    "mdm_jax.orders.variational.evaluation": 1.5,
    "mdm_jax.orders.variational.start": 1.5,
    "mdm_jax.orders.variational.order_choice": 1.5,
    "mdm_jax.orders.variational.demonstrations": 1.5,
    "mdm_jax.rl": 1,
    "mdm_jax.rl.branch_learner": 2,
    "mdm_jax.rl.branch_objective": 1.5,
    "mdm_jax.rl.branches": 1.5,
    "mdm_jax.rl.compiled": 2,
    "mdm_jax.rl.learner": 2,
    "mdm_jax.rl.monitor": 2,
    "mdm_jax.rl.reached": 2,
    "mdm_jax.rl.imitation": 2,
    "mdm_jax.rl.warm_start": 2,
    "mdm_jax.compiling": 2,
    "mdm_jax.sharding": 2,
    "mdm_jax.training": 2,
    "mdm_jax.laws": 1,
    "mdm_jax.evals": 3,
    "mdm_jax.evals.intervals": 1,
    "mdm_jax.tasks": 3,
    "mdm_jax.profiling": 3,
    "mdm_jax.runs": 3,
}
PURE = {"jax", "jaxtyping", "numpy", "scipy"}
PLAIN = {"__future__", "abc", "collections", "dataclasses", "functools", "itertools", "math"}
PLAIN |= {"enum", "operator", "typing"}  # the standard library without clocks, files or processes
ALLOWED = {0: PURE | PLAIN, 1: PURE | PLAIN, 1.5: PURE | PLAIN | {"flax"}}
ENTRY_ONLY = {"experiments", "tyro", "rich"}
LEARNERS = ("learner", "imitation", "branch_learner")
ONLY_IN = {
    "orbax": ("mdm_jax.training.checkpoints",),
    "optax": ("mdm_jax.training", *(f"mdm_jax.rl.{name}" for name in LEARNERS)),
}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def within(name, prefix):
    return name == prefix or name.startswith(prefix + ".")


def layer(name):
    fitting = [prefix for prefix in LAYERS if within(name, prefix) and prefix != "mdm_jax"]
    assert fitting or name == "mdm_jax", f"{name} has no layer: give it one in this test"
    return LAYERS[max(fitting, key=len, default="mdm_jax")]


def imports(nodes):
    """Names that import statements bring in; members of packages included."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(tree):
    """Names of plain functions that are called, such as print."""
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {node.func.id for node in nodes if isinstance(node.func, ast.Name)}


def violations(name, source):
    """The rules of its layer that module `name` breaks, as sentences; imports in functions count."""
    tree, level = ast.parse(source), layer(name)
    for item in imports(ast.walk(tree)):
        top = item.split(".")[0]
        if top == "mdm_jax":
            if layer(item) > level:
                yield f"{name} (layer {level}) imports {item} (layer {layer(item)})"
        elif top in ENTRY_ONLY:
            yield f"{name} imports {item}"
        elif not any(within(name, home) for home in ONLY_IN.get(top, ())) and (
            top in ONLY_IN or top not in ALLOWED.get(level, {top})
        ):
            yield f"{name} (layer {level}) imports {item}"
    if "print" in calls(tree):
        yield f"{name} prints"
    if (
        any(within(item, "jax.config") for item in imports(ast.walk(tree)))
        or "jax.config" in source
    ):
        yield f"{name} touches jax.config"


def test_modules_stay_in_their_layer():
    broken = [v for path in LIBRARY for v in violations(module_name(path), path.read_text())]
    assert broken == []


def imported_on_load(tree, modules):
    """Modules of `modules` that are imported while a module is loaded: not those in functions."""
    bodies = [tree]
    while bodies:
        node = bodies.pop()
        for item in imports([node]):
            yield item if item in modules else item.rpartition(".")[0]
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            bodies.extend(ast.iter_child_nodes(node))


def test_no_imports_run_in_a_circle():
    modules = {module_name(path): ast.parse(path.read_text()) for path in LIBRARY}
    graph = {
        name: set(imported_on_load(tree, modules)) & set(modules) - {name}
        for name, tree in modules.items()
    }
    assert graph["mdm_jax.sampling.loop"] >= {"mdm_jax.sampling.step", "mdm_jax.types"}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_notebooks_import_mdm_jax_and_experiments_alone():
    known = PURE | {"mdm_jax", "experiments", "matplotlib", "IPython"} | sys.stdlib_module_names
    for path in NOTEBOOKS:
        cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        for cell in cells:
            lines = "".join(cell["source"]).splitlines()
            tree = ast.parse("\n".join(line for line in lines if not line.startswith("%")))
            tops = {item.split(".")[0] for item in imports(ast.walk(tree))}
            assert tops <= known, (path.name, tops - known)


def functions(body, prefix):
    """Every function below `body`, also methods and nested ones, with its dotted name."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}.{node.name}"
            if not isinstance(node, ast.ClassDef):
                yield name, node
            yield from functions(node.body, name)
        elif hasattr(node, "body") and isinstance(node.body, list):
            yield from functions([*node.body, *getattr(node, "orelse", [])], prefix)


def parameters(node):
    """The parameters of a function, `self` and `cls` apart."""
    given = node.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return [arg.arg for arg in named if arg is not None and arg.arg not in ("self", "cls")]


def test_no_function_has_more_than_seven_parameters():
    found = {
        name
        for path in [*LIBRARY, *EXPERIMENTS]
        for name, node in functions(ast.parse(path.read_text()).body, module_name(path))
        if len(parameters(node)) > 7
    }
    assert found == set()


def lines_of(path):
    return len(path.read_text().splitlines())


def test_entry_points_have_at_most_200_lines():
    long = {path.stem for path in ENTRY_POINTS if lines_of(path) > 200}
    assert long == set()


def test_entry_points_have_at_most_180_lines_each_with_what_they_share():
    assert sum(map(lines_of, EXPERIMENTS)) <= 180 * len(ENTRY_POINTS)


def test_no_module_collects_odds_and_ends():
    stems = {path.stem for path in [*LIBRARY, *EXPERIMENTS]}
    assert not stems & {"utils", "helpers", "misc", "common"}


@pytest.mark.parametrize(
    "name, source",
    [
        ("mdm_jax.policies.heuristics", "import flax.linen as nn"),
        ("mdm_jax.policies.heuristics", "from mdm_jax.denoisers.transformer import Transformer"),
        ("mdm_jax.policies.heuristics", "from mdm_jax.policies.networks import policy_network"),
        ("mdm_jax.sampling.loop", "def f():\n    import time"),
        ("mdm_jax.sampling.loop", "print(1)"),
        ("mdm_jax.diffusion.elbo", "import os"),
        ("mdm_jax.denoisers.transformer", "import optax"),
        ("mdm_jax.training.losses", "import orbax.checkpoint"),
        ("mdm_jax.training.losses", "from mdm_jax import tasks"),
        ("mdm_jax.types", "from mdm_jax.diffusion import elbo"),
        ("mdm_jax.tasks.sudoku.task", "import tyro"),
        ("mdm_jax.evals.evaluator", "from experiments.train import Config"),
        ("mdm_jax.evals.evaluator", "print(1)"),
        ("mdm_jax.runs.directory", "import jax\njax.config.update('x', 1)"),
    ],
)
def test_a_broken_rule_is_found(name, source):
    assert len(list(violations(name, source))) == 1


@pytest.mark.parametrize(
    "name, source",
    [
        ("mdm_jax.denoisers.transformer", "import flax.linen as nn"),
        ("mdm_jax.training.state", "import optax\nimport flax\nimport time"),
        ("mdm_jax.training.checkpoints", "import orbax.checkpoint as ocp"),
        ("mdm_jax.evals.evaluator", "import time\nfrom mdm_jax.training import state"),
        ("mdm_jax.orders.variational.posterior", "from flax import linen\nimport jax"),
    ],
)
def test_the_rules_permit_what_they_should(name, source):
    assert list(violations(name, source)) == []


def test_imports_inside_functions_close_no_circle():
    tree = ast.parse("import a.b\nclass C:\n    from a import c\ndef f():\n    import a.d")
    assert set(imported_on_load(tree, {"a.b", "a.c", "a.d"})) >= {"a.b", "a.c"}
    assert "a.d" not in set(imported_on_load(tree, {"a.b", "a.c", "a.d"}))


def test_parameters_are_counted():
    source = "class A:\n    def f(self, a, /, b, *c, d, **e):\n        def g(x): ...\n"
    found = dict(functions(ast.parse(source).body, "m"))
    assert {name: len(parameters(node)) for name, node in found.items()} == {
        "m.A.f": 5,
        "m.A.f.g": 1,
    }


def test_keys_are_made_in_one_place():
    """Elsewhere an implementation would not be named, or two purposes would share keys."""
    for path in [*LIBRARY, *EXPERIMENTS]:
        made = [name for name in ("random.key(", "PRNGKey(") if name in path.read_text()]
        assert not made or module_name(path) == "mdm_jax.keys", path
