"""Who may import whom: the layers of the package, read off its sources."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = sorted(p.relative_to(ROOT) for p in ROOT.glob("mdm_jax/**/*.py"))

# the longest prefix that fits decides; what is new must be given a layer here
LAYERS = {
    "mdm_jax": 3,
    "mdm_jax.types": 0,
    "mdm_jax.errors": 0,
    "mdm_jax.pytrees": 0,
    "mdm_jax.diffusion": 1,
    "mdm_jax.denoisers": 1.5,
    "mdm_jax.denoisers.base": 1,
    "mdm_jax.denoisers.oracle": 1,
    "mdm_jax.denoisers.guidance": 1,
    "mdm_jax.denoisers.pretrained.checkpoints": 3,
    "mdm_jax.denoisers.pretrained.tensor_files": 3,
    "mdm_jax.policies": 1,
    "mdm_jax.policies.networks": 1.5,
    "mdm_jax.sampling": 1,
    "mdm_jax.orders": 1,
    "mdm_jax.orders.variational.posterior": 1.5,
    "mdm_jax.orders.variational.loss": 1.5,
    "mdm_jax.orders.variational.evaluation": 3,
    "mdm_jax.rl": 1,
    "mdm_jax.rl.rollouts": 2,
    "mdm_jax.rl.grpo": 2,
    "mdm_jax.rl.imitation": 2,
    "mdm_jax.sharding": 2,
    "mdm_jax.training": 2,
    "mdm_jax.evals": 3,
    "mdm_jax.evals.intervals": 1,
    "mdm_jax.tasks": 3,
    "mdm_jax.profiling": 3,
    "mdm_jax.runs": 3,
}
PURE = {"jax", "jaxtyping", "numpy", "scipy"}
PLAIN = {"__future__", "abc", "collections", "dataclasses", "functools", "itertools", "math"}
PLAIN |= {"operator", "typing"}  # the standard library without clocks, files or processes
ALLOWED = {0: PURE | PLAIN, 1: PURE | PLAIN, 1.5: PURE | PLAIN | {"flax"}}
NEVER_BELOW_ENTRY = {"tyro"}
ONLY_IN = {
    "orbax": ("mdm_jax.training.checkpoints",),
    "optax": ("mdm_jax.training", "mdm_jax.rl.grpo", "mdm_jax.rl.imitation"),
}


def module_name(path):
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def within(name, prefix):
    return name == prefix or name.startswith(prefix + ".")


def layer(name):
    fitting = [prefix for prefix in LAYERS if within(name, prefix) and prefix != "mdm_jax"]
    assert fitting or name == "mdm_jax", f"{name} has no layer: give it one in this test"
    return LAYERS[max(fitting, key=len, default="mdm_jax")]


def imports(tree):
    """Names imported anywhere in a module, inside functions too; members of packages included."""
    for node in ast.walk(tree):
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
    """What module `name` may not do, as sentences."""
    tree, level = ast.parse(source), layer(name)
    for item in imports(tree):
        top = item.split(".")[0]
        if top == "mdm_jax":
            if layer(item) > level:
                yield f"{name} (layer {level}) imports {item} (layer {layer(item)})"
        elif top == "experiments" or top in NEVER_BELOW_ENTRY:
            yield f"{name} imports {item}"
        elif not any(within(name, home) for home in ONLY_IN.get(top, ())) and (
            top in ONLY_IN or top not in ALLOWED.get(level, {top})
        ):
            yield f"{name} (layer {level}) imports {item}"
    if level < 3 and "print" in calls(tree):
        yield f"{name} prints"
    if any(within(item, "jax.config") for item in imports(tree)) or "jax.config" in source:
        yield f"{name} touches jax.config"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_modules_stay_in_their_layer(path):
    assert list(violations(module_name(path), (ROOT / path).read_text())) == []


@pytest.mark.parametrize("path", FILES, ids=str)
def test_there_is_no_drawer_for_odds_and_ends(path):
    assert path.stem not in {"utils", "helpers", "misc", "common"}


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
        ("mdm_jax.evals.evaluate", "from experiments.train import Config"),
        ("mdm_jax.runs.log", "import jax\njax.config.update('x', 1)"),
    ],
)
def test_the_rules_can_be_broken(name, source):
    assert len(list(violations(name, source))) == 1


def test_the_rules_permit_what_they_should():
    for name, source in [
        ("mdm_jax.denoisers.transformer", "import flax.linen as nn"),
        ("mdm_jax.training.state", "import optax\nimport flax\nimport time"),
        ("mdm_jax.training.checkpoints", "import orbax.checkpoint as ocp"),
        ("mdm_jax.evals.evaluate", "import time\nfrom mdm_jax.training import state\nprint(1)"),
        (
            "mdm_jax.orders.variational.posterior",
            "from flax import linen\nfrom mdm_jax.diffusion import elbo",
        ),
    ]:
        assert list(violations(name, source)) == []
