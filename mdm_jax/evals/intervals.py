"""Intervals and comparisons for accuracies measured on small test sets.

No normal approximations: below a few hundred questions they collapse to zero width at 0 % and
100 % and leave [0, 1].

Reference: Bowyer, Aitchison & Ivanova, "Don't use the CLT in LLM evals with fewer than a few
hundred datapoints", arXiv:2503.01747.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy  # its parts are imported at their first use
from jaxtyping import Float, Int

Count = int | np.integer


class Interval(NamedTuple):
    """An interval of accuracies, or of their difference."""

    low: float
    high: float


class Difference(NamedTuple):
    """What the data say about theta_A - theta_B."""

    probability: float  # P(theta_A > theta_B | data)
    mean: float
    interval: Interval
    effective_draws: float  # of importance sampling


def beta_interval(correct: Count, total: Count, level: float = 0.95) -> Interval:
    """Equal-tailed posterior interval of an accuracy under a uniform prior.

    theta ~ Beta(1, 1), so theta | data ~ Beta(1 + correct, 1 + total - correct). With total = 0 it
    is the prior's interval. At 0 % and 100 % the observed share lies just outside.

    Args:
        correct: right answers.
        total: questions asked.
        level: posterior mass of the interval.

    Returns:
        The interval.

    Raises:
        ValueError: if not 0 <= correct <= total or not 0 < level < 1.

    Reference: arXiv:2503.01747, section 3.1.
    """
    _check(correct, total, level)
    low, high = scipy.stats.beta.interval(level, 1 + correct, 1 + total - correct)
    return Interval(float(low), float(high))


def mean_interval(
    values: Float[np.ndarray, " n"], seed: int = 0, draws: int = 4000, level: float = 0.95
) -> Interval:
    """Equal-tailed interval of the mean that independent values are draws of, by Bayesian bootstrap.

    The posterior of the mean is that of sum_i w_i v_i with (w_1, ..., w_n) ~ Dirichlet(1, ..., 1), which
    assumes no shape of the values.

    Args:
        values: numbers on any scale, such as importance ratios.
        seed: of the draws.
        draws: of the weights.
        level: posterior mass of the interval.

    Returns:
        The interval, inside the range of the values.

    Reference: Rubin (1981), "The Bayesian bootstrap".
    """
    _check(0, 0, level)
    means = np.random.default_rng(seed).dirichlet(np.ones(len(values)), draws) @ values
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def seeds_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Student's t interval of the mean over training seeds, of which there are few.

    Args:
        values: what each seed reached, at least two.
        level: of the interval.

    Returns:
        The interval, which may leave the range of the values.

    Raises:
        ValueError: if there are fewer than two values.
    """
    _check(0, 0, level)
    if len(values) < 2:
        raise ValueError("an interval over seeds needs at least two of them")
    half = scipy.stats.t.ppf((1 + level) / 2, len(values) - 1)
    half *= np.std(values, ddof=1) / np.sqrt(len(values))
    return Interval(float(np.mean(values) - half), float(np.mean(values) + half))


def mcnemar_exact(only_a: Count, only_b: Count) -> float:
    """Two-sided p-value of theta_A = theta_B from the questions that just one of the two got right.

    only_a | only_a + only_b ~ Binomial(only_a + only_b, 1/2). 1 if there are no such questions.

    Args:
        only_a: questions that A got right and B wrong.
        only_b: questions that B got right and A wrong.

    Returns:
        The p-value.

    Raises:
        ValueError: if a count is negative.

    Reference: McNemar (1947), in its exact form.
    """
    _check_counts(only_a=only_a, only_b=only_b)
    discordant = int(only_a) + int(only_b)
    return float(scipy.stats.binomtest(int(only_a), discordant).pvalue) if discordant else 1.0


def paired_difference(
    both: Count,
    only_a: Count,
    only_b: Count,
    neither: Count,
    seed: int = 0,
    draws: int = 20_000,
    level: float = 0.95,
) -> Difference:
    """Posterior of theta_A - theta_B when the two answered the same questions.

    An answer is right iff its latent is positive; (latent_A, latent_B) is bivariate normal with
    unit variances, means probit(theta_A) and probit(theta_B), and correlation rho. Priors:
    theta_A, theta_B ~ U(0, 1), rho ~ 2 Beta(4, 2) - 1. So each accuracy on its own has the uniform
    prior of `beta_interval`, and the two are expected to fail on the same questions. (A Dirichlet
    prior on the four cells would be in closed form, but favours accuracies near 1/2.)

    Importance sampling, as published, but not from the prior: of 10 000 such draws, 1300 questions
    leave about one that counts. The proposal is a Student t fitted to the posterior.

    Args:
        both, only_a, only_b, neither: questions that both, just A, just B, none got right.
        seed: of the draws.
        draws: how many; the standard error of `probability` is at most 0.5 / sqrt(effective_draws).
        level: posterior mass of the interval.

    Returns:
        P(theta_A > theta_B), the posterior mean and the equal-tailed interval of the difference,
        and how many independent draws the weighted ones are worth.

    Raises:
        ValueError: if a count is negative, draws < 1, or not 0 < level < 1.

    Reference: arXiv:2503.01747, section 3.4.
    """
    _check_counts(both=both, only_a=only_a, only_b=only_b, neither=neither)
    _check(0, 0, level)
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    rng = np.random.default_rng(seed)
    counts = np.array([both, only_a, only_b, neither])
    proposal = _fitted_proposal(counts, rng)
    latents = proposal.rvs(draws, rng).reshape(draws, 3)
    weight = scipy.special.softmax(_log_posterior(latents, counts) - proposal.logpdf(latents))
    theta = scipy.special.ndtr(latents[:, :2])
    return _weighted_difference(theta[:, 0] - theta[:, 1], weight, level)


def bivariate_normal_cdf(
    h: Float[np.ndarray, " n"], k: Float[np.ndarray, " n"], rho: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """P(X <= h, Y <= k) for standard normal X, Y with correlation rho, -1 < rho < 1.

    (Phi(h) + Phi(k)) / 2 - T(h, (k/h - rho) / s) - T(k, (h/k - rho) / s) - [h k < 0] / 2 with
    s = sqrt(1 - rho^2) and Owen's T, which is exact to rounding; h = 0 is read as its limit.

    Args:
        h, k: upper ends.
        rho: correlations.

    Returns:
        The probabilities.

    Reference: Owen (1956), "Tables for computing bivariate normal probabilities", eq. 2.1.
    """
    h, k = np.where(h == 0, 1e-150, h), np.where(k == 0, 1e-150, k)
    s = np.sqrt((1 - rho) * (1 + rho))
    tails = scipy.special.owens_t(h, (k / h - rho) / s) + scipy.special.owens_t(
        k, (h / k - rho) / s
    )
    return (scipy.special.ndtr(h) + scipy.special.ndtr(k)) / 2 - tails - 0.5 * ((h > 0) != (k > 0))


def _log_posterior(
    latents: Float[np.ndarray, "n 3"], counts: Int[np.ndarray, "4"]
) -> Float[np.ndarray, " n"]:
    """Unnormalised log density of (probit theta_A, probit theta_B, artanh rho), all unbounded."""
    a, b, z = latents.T
    rho = np.clip(np.tanh(z), 1e-12 - 1, 1 - 1e-12)
    neither = bivariate_normal_cdf(-a, -b, rho)
    right_a, wrong_b = scipy.special.ndtr(a), scipy.special.ndtr(-b)
    cells = np.stack(
        [right_a - wrong_b + neither, wrong_b - neither, 1 - right_a - neither, neither]
    )
    log_prior = (
        -(a**2 + b**2) / 2
        + 4 * scipy.special.log_expit(2 * z)
        + 2 * scipy.special.log_expit(-2 * z)
    )
    return log_prior + scipy.special.xlogy(counts[:, None], np.maximum(cells, 0.0)).sum(0)


def _fitted_proposal(counts: Int[np.ndarray, "4"], rng: np.random.Generator) -> Any:
    """Student t with the posterior's mean and covariance; its tails are heavier than the prior's.

    Starts as wide as the prior and narrows: each round fits draws weighted by a power of posterior
    over proposal, 1, 1/2, 1/4, ..., the first that leaves a tenth of them effective.
    """
    mean, covariance = np.array([0.0, 0.0, 0.4]), np.diag([1.0, 1.0, 0.25])
    for _ in range(15):
        proposal = scipy.stats.multivariate_t(mean, covariance, df=5)
        latents = proposal.rvs(2000, rng)
        log_weight = _log_posterior(latents, counts) - proposal.logpdf(latents)
        tempered = (scipy.special.softmax(log_weight / 2**k) for k in range(60))
        weight = next(w for w in tempered if 1 / (w**2).sum() > 200)
        mean, covariance = weight @ latents, np.cov(latents.T, aweights=weight)
    return scipy.stats.multivariate_t(mean, covariance, df=5)


def _weighted_difference(
    difference: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"], level: float
) -> Difference:
    """Share above zero, mean and quantiles of weighted draws; `weight` sums to 1."""
    order = np.argsort(difference)
    mass = np.cumsum(weight[order])
    ends = np.searchsorted(mass, [(1 - level) / 2, (1 + level) / 2])
    low, high = difference[order][np.minimum(ends, difference.size - 1)]
    return Difference(
        probability=float(weight[difference > 0].sum()),
        mean=float(weight @ difference),
        interval=Interval(float(low), float(high)),
        effective_draws=float(1 / (weight**2).sum()),
    )


def _check(correct: Count, total: Count, level: float = 0.95) -> None:
    if not 0 <= correct <= total:
        raise ValueError(f"need 0 <= correct <= total, got {correct=}, {total=}")
    if not 0 < level < 1:
        raise ValueError(f"need 0 < level < 1, got {level=}")


def _check_counts(**counts: Count) -> None:
    if any(count < 0 for count in counts.values()):
        raise ValueError(f"counts must not be negative, got {counts}")
