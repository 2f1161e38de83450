"""Calling the entry points in this process, as `python -m experiments.NAME WORDS...` does."""

import pytest

from experiments import _cli as cli
from experiments import (
    benchmark,
    benchmark_generation,
    coordinate_check,
    evaluate,
    export,
    fit_laws,
    flerm,
    frontier,
    generative_frontier,
    learn_order,
    learn_pairs,
    learn_policy,
    learn_variational_order,
    longer_canvases,
    quickstart,
    repair_store,
    sample,
    scaling_sweep,
    table_exact,
    table_learned_orders,
    table_trimodal,
    table_unmasking_policies,
    table_variational_orders,
    train_denoiser,
    training_cost,
    transfer_search,
    transfer_sweep,
)

MODULES = {
    "train": train_denoiser,
    "quickstart": quickstart,
    "learn_variational_order": learn_variational_order,
    "learn_order": learn_order,
    "learn_pairs": learn_pairs,
    "learn_policy": learn_policy,
    "evaluate": evaluate,
    "frontier": frontier,
    "generative_frontier": generative_frontier,
    "sample": sample,
    "longer_canvases": longer_canvases,
    "scaling_sweep": scaling_sweep,
    "benchmark": benchmark,
    "benchmark_generation": benchmark_generation,
    "coordinate_check": coordinate_check,
    "export": export,
    "fit_laws": fit_laws,
    "flerm": flerm,
    "repair_store": repair_store,
    "table_exact": table_exact,
    "table_learned_orders": table_learned_orders,
    "table_trimodal": table_trimodal,
    "table_unmasking_policies": table_unmasking_policies,
    "table_variational_orders": table_variational_orders,
    "transfer_search": transfer_search,
    "transfer_sweep": transfer_sweep,
    "training_cost": training_cost,
}


def call(name, *words, run=None):
    module = MODULES[name]
    presets = getattr(module, "PRESETS", None)
    cli.main(module.Config, run or module.run, module.__doc__, presets, [str(w) for w in words])


def refused(capsys, name, *words):
    """The line that the call ends with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        call(name, *words)
    assert caught.value.code == 2
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err + shown.out
    assert shown.err.startswith("error: ") and shown.err.count("\n") == 1, shown.err
    return shown.err


def parsed(name, *words):
    found = []
    call(name, *words, run=found.append)
    return found[0]
