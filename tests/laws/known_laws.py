"""Runs of laws that are known."""

import numpy as np

from mdm_jax.laws.fit import Law

# masked diffusion, approach 3 of arXiv:2512.10858; there "parameters" are FLOPs per token
MASKED = {"E": 2.17, "A": 222.0, "alpha": 0.292, "B": 1920.0, "beta": 0.367}


def law_of(form, values):
    """The law of a form with given parameters."""
    signs = {p.exponent: p.sign for term in form.terms for p in term.powers}
    theta = [signs[n] * values[n] if n in signs else np.log(values[n]) for n in form.names]
    return Law(form, np.array(theta), 0.0)


def runs_of(law, count, seed=0, noise=0.0, **ranges):
    """Runs at settings drawn evenly in logarithms, with log-normal noise."""
    rng = np.random.default_rng(seed)
    columns = {n: np.exp(rng.uniform(*np.log(ends), count)) for n, ends in ranges.items()}
    columns[law.form.target] = law.predict(columns) * np.exp(noise * rng.standard_normal(count))
    return columns
