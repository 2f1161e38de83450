"""Compute-optimal sizes, tokens and losses: of a law in closed form, and their growth with the budget."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mdm_jax.laws.columns import FLOPS_PER_PARAMETER_AND_TOKEN
from mdm_jax.laws.fit import Law

Growth = Float[np.ndarray, "draws 2"]


class Optima(NamedTuple):
    """What each budget of FLOPs is best spent on; of several draws, [draws, budgets]."""

    flops: Float[np.ndarray, "*budgets"]
    parameters: Float[np.ndarray, "*budgets"]
    tokens: Float[np.ndarray, "*budgets"]
    loss: Float[np.ndarray, "*budgets"]


def optimal(
    law: Law, flops: Float[np.ndarray, " budgets"], rate: float = FLOPS_PER_PARAMETER_AND_TOKEN
) -> Optima:
    """The smallest loss E + A / N^alpha + B / D^beta with rate N D = flops.

    N = G (flops / rate)^(beta / (alpha + beta)) with G = (alpha A / (beta B))^(1 / (alpha + beta)).

    Args:
      law: of the form `LOSS`.
      rate: FLOPs for each parameter and token; 1 where "parameters" are FLOPs per token.

    Reference: Hoffmann et al., arXiv:2203.15556, Eq. 4.
    """
    p = law.values
    both = p["alpha"] + p["beta"]
    balance = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / both)
    products = np.asarray(flops, float) / rate
    parameters = balance * products ** (p["beta"] / both)
    tokens = products / parameters
    loss = law.predict({"parameters": parameters, "tokens": tokens})
    return Optima(np.asarray(flops, float), parameters, tokens, loss)


def size_exponent(values: Mapping[str, Any]) -> Any:
    """The optimal N grows as flops to the power beta / (alpha + beta); numbers, or arrays of draws."""
    return values["beta"] / (values["alpha"] + values["beta"])


def growth(
    flops: Float[np.ndarray, "draws budgets"], values: Float[np.ndarray, "draws budgets"]
) -> Growth:
    """(log k, p) of values = k flops^p by least squares in logarithms, for each draw.

    Budgets are few and each optimum is an average already, so that nothing is gained by a Huber loss.
    """
    x, y = np.log(flops), np.log(values)
    centred = x - x.mean(axis=1, keepdims=True)
    slope = (centred * y).sum(axis=1) / (centred**2).sum(axis=1)
    return np.stack([y.mean(axis=1) - slope * x.mean(axis=1), slope], axis=1)
