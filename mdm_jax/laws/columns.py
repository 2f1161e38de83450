"""Tables of runs as columns, and what follows from others: FLOPs, tokens, -log accuracy.

Convention of FLOPs: where a table has no `flops`, training costs C = 6 N D, two FLOPs for each
parameter and token forward and four backward. N is what the table says; leave the embedding out of it,
which does no arithmetic and is most of a small network. A masked diffusion model pays for every position
of the canvas, masked or not, and draws one mask for each sequence, so D counts every position once.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from mdm_jax.errors import MdmError
from mdm_jax.laws.forms import Form

Columns = Mapping[str, Float[np.ndarray, " runs"]]
FLOPS_PER_PARAMETER_AND_TOKEN = 6
CONVENTION = "as the runs say; 6 N D where they say none"
ABOVE_CHANCE = 0.05  # accuracies closer to chance say nothing about scale (arXiv:2512.08894)


def completed(columns: Columns) -> dict[str, Float[np.ndarray, " runs"]]:
    """The columns, and those that follow: C = 6 N D solved for the one missing, and -log accuracy.

    Accuracies are rescaled by chance, Q' = (Q - Qr) / (1 - Qr), where there is a column `chance`.

    Raises:
      MdmError: an accuracy that is 1, or at most 5 % above chance.
    """
    found = {name: np.asarray(column, float) for name, column in columns.items()}
    sizes, rate = found.get("parameters"), FLOPS_PER_PARAMETER_AND_TOKEN
    if sizes is not None and "flops" in found and "tokens" not in found:
        found["tokens"] = found["flops"] / (rate * sizes)
    if sizes is not None and "tokens" in found and "flops" not in found:
        found["flops"] = rate * sizes * found["tokens"]
    if "accuracy" in found:
        chance = found.get("chance", np.zeros_like(found["accuracy"]))
        found["neg_log_accuracy"] = _neg_log(found["accuracy"], chance)
    return found


def _neg_log(
    accuracy: Float[np.ndarray, " runs"], chance: Float[np.ndarray, " runs"]
) -> Float[np.ndarray, " runs"]:
    scaled = (accuracy - chance) / (1 - chance)
    least = np.where(chance > 0, ABOVE_CHANCE, 0)
    if (bad := ~((scaled > least) & (scaled < 1))).any():
        raise MdmError(
            f"{bad.sum()} of {len(bad)} accuracies are 1, or not more than 5 % above chance, such as "
            f"{accuracy[bad][0]:g}: leave those runs out"
        )
    return -np.log(scaled)


def check_columns(columns: Columns, names: Sequence[str], least: int) -> None:
    """Raise MdmError unless the columns are there, with at least `least` runs and positive numbers."""
    if missing := [name for name in names if name not in columns]:
        raise MdmError(
            f"the runs have no {', '.join(missing)}; their columns are {', '.join(sorted(columns))}"
        )
    runs = len(columns[names[0]])
    if runs < least:
        raise MdmError(f"{runs} runs are too few: give at least {least}")
    for name in names:
        bad = ~((columns[name] > 0) & np.isfinite(columns[name]))
        if bad.any():
            raise MdmError(
                f"{name} must be positive, got {columns[name][bad][0]:g} in run {bad.argmax() + 1}"
            )


def check_form(columns: Columns, form: Form) -> None:
    """As `check_columns`, for what a form needs: one run more than it has parameters."""
    check_columns(columns, (form.target, *form.variables), len(form.names) + 1)


def chosen(
    columns: Columns, which: Bool[np.ndarray, " runs"] | Int[np.ndarray, " kept"]
) -> dict[str, np.ndarray]:
    """The rows of a mask, or with given indices."""
    return {name: column[which] for name, column in columns.items()}
