"""The forms of laws: sums of terms, each a coefficient times powers of what was varied."""

from typing import NamedTuple


class Power(NamedTuple):
    """A factor exp(sign * exponent * product of log variables): sign -1 divides by variable^exponent."""

    exponent: str
    variables: tuple[str, ...]
    sign: int = -1


class Term(NamedTuple):
    """A positive coefficient times powers; without powers it is what no scale removes."""

    coefficient: str
    powers: tuple[Power, ...] = ()


class Form(NamedTuple):
    """A law of one column of a table of runs, as a sum of terms.

    Attributes:
      formula: as it is printed.
      target: the column that it predicts.
      terms: what it adds up.
    """

    formula: str
    target: str
    terms: tuple[Term, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters: of each term its coefficient, then its exponents."""
        return tuple(
            name
            for term in self.terms
            for name in (term.coefficient, *(power.exponent for power in term.powers))
        )

    @property
    def variables(self) -> tuple[str, ...]:
        """The columns that it predicts from, each once."""
        used = (v for term in self.terms for power in term.powers for v in power.variables)
        return tuple(dict.fromkeys(used))


BY_SIZE = Term("A", (Power("alpha", ("parameters",)),))
BY_TOKENS = Term("B", (Power("beta", ("tokens",)),))

# Hoffmann et al., arXiv:2203.15556, approach 3
LOSS = Form("loss = E + A / N^alpha + B / D^beta", "loss", (Term("E"), BY_SIZE, BY_TOKENS))
# arXiv:2512.08894: nothing is irreducible in an accuracy
DOWNSTREAM = Form(
    "-log accuracy = A / N^alpha + B / D^beta", "neg_log_accuracy", (BY_SIZE, BY_TOKENS)
)
# the same at a fixed ratio of tokens to parameters
DOWNSTREAM_COMPUTE = Form(
    "-log accuracy = A / C^alpha",
    "neg_log_accuracy",
    (Term("A", (Power("alpha", ("flops",)),)),),
)
# of the same paper, with k independent generations
PASS_AT_K = Form(
    "log(-log pass@k) = log A + alpha log C + beta log k + delta log C log k",
    "neg_log_accuracy",
    (
        Term(
            "A",
            (
                Power("alpha", ("flops",), 1),
                Power("beta", ("samples",), 1),
                Power("delta", ("flops", "samples"), 1),
            ),
        ),
    ),
)
# decoding steps as the compute of generation: what too few calls lose, and what the denoiser itself does
_CALLS = (
    Term("A", (Power("a", ("calls",)),)),
    Term("B", (Power("b", ("excess",), 1),)),
)
CALLS = Form("-log accuracy = A / calls^a + B excess^b", "neg_log_accuracy", _CALLS)
CALLS_KL = Form("KL = A / calls^a + B excess^b", "kl", _CALLS)


def power_law(target: str, variable: str) -> Form:
    """target = k variable^p, as for the compute-optimal size."""
    return Form(
        f"{target} = k {variable}^p", target, (Term("k", (Power("p", (variable,), sign=1),)),)
    )
