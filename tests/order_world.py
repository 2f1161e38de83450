"""A world so small that every path of reveals can be listed: random tables, and bounds by brute force.

The brute force is plain NumPy in double precision, written from the definitions; it shares no formula
with the package. Forms are called "max" (Bernoullis, the largest one), "sigmoid" and "one" (one position
at a time); the policy's sets are Bernoullis, or one position for "one".
"""

import itertools
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from mdm_jax.orders.variational.forms.max_normalised import MaxNormalised
from mdm_jax.orders.variational.forms.plackett_luce import PlackettLuce
from mdm_jax.orders.variational.forms.sigmoid import SigmoidScores
from mdm_jax.orders.variational.posterior import PosteriorScores, Scorer, ScorerConfig
from mdm_jax.policies.networks.policy_network import PolicyConfig, PolicyNetwork, StepFeatures
from mdm_jax.pytrees import pytree_dataclass

LENGTH, VOCAB, STEPS = 4, 3, 3
MASK, PAD, EOS = VOCAB, VOCAB + 1, 2
PLACES = (VOCAB + 1) ** np.arange(LENGTH)  # canvas @ PLACES numbers the canvases,
BITS = 2 ** np.arange(LENGTH)  # masked @ BITS the sets
ALL, NONE = np.ones(LENGTH, bool), np.zeros(LENGTH, bool)
FORMS = {"max": MaxNormalised(), "sigmoid": SigmoidScores(), "one": PlackettLuce()}


class World(NamedTuple):
    """A denoiser, what the policy sees of it, and a policy: tables of normal numbers."""

    logits: np.ndarray  # [canvases, length, vocab]
    seen: np.ndarray  # [canvases, length, vocab]; the logits, unless they are varied
    utilities: np.ndarray  # [steps left, sets, length], to which the logits of token 0 are added


def random_world(seed=0):
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=((VOCAB + 1) ** LENGTH, LENGTH, VOCAB))
    return World(logits, logits, 0.7 * rng.normal(size=(LENGTH + 2, 2**LENGTH, LENGTH)) - 0.5)


@pytree_dataclass
class Tabular:
    """A denoiser that looks its logits up; `change` of `directions` is added to them."""

    table: Any
    directions: Any = None  # [directions, canvases, length, vocab]
    change: Any = None  # [directions]

    def __call__(self, canvas, valid, positions=None):
        code = jnp.sum(canvas * PLACES)
        logits = self.table[code]
        if self.change is not None:
            logits += jnp.tensordot(self.change, self.directions[:, code], axes=1)
        return logits if positions is None else logits[positions]


def utilities_of(table, directions=None, change=None):
    """The world's policy, for `draw_terms`."""

    def apply(logits, is_masked, left, hidden):
        code = jnp.sum(is_masked * BITS)
        utilities = table[left, code] + logits[:, 0]
        if directions is not None:
            utilities += jnp.tensordot(change, directions[:, left, code], axes=1)
        return utilities

    return apply


class PlainPolicy(PolicyNetwork):
    """A network without layers: a table of (steps left, position), and the logits of token 0."""

    def featurize(self, logits, is_masked, left, hidden=None, time=0.0):
        return StepFeatures(logits[:, :1], left, None)

    @nn.compact
    def utilities(self, features):
        shape = (self.max_steps + 1, self.max_length)
        table = self.param("table", nn.initializers.zeros, shape)
        return table[features.left] + features.features[:, 0]


class PlainScorer(Scorer):
    """The same priorities and predictions for every sequence."""

    @nn.compact
    def __call__(self, tokens, valid, maskable, here, order=None):
        names = ("priority", "predicted_nll")
        return PosteriorScores(
            *(self.param(n, nn.initializers.zeros, (self.max_length,)) for n in names)
        )


class PlainDenoiser(nn.Module):
    """`Tabular` as a module."""

    @nn.compact
    def __call__(self, canvas, valid, positions=None):
        shape = ((VOCAB + 1) ** LENGTH, LENGTH, VOCAB)
        return Tabular(self.param("table", nn.initializers.zeros, shape))(canvas, valid, positions)


POLICY = PlainPolicy(PolicyConfig(width=8, heads=2), LENGTH, STEPS)
SCORER = PlainScorer(ScorerConfig(), VOCAB, LENGTH)


def with_plain_policy(world, table):
    """The world with the policy that POLICY is with this table."""
    shape = (STEPS + 1, 2**LENGTH, LENGTH)
    return world._replace(utilities=np.broadcast_to(np.asarray(table)[:, None], shape))


def sequences():
    """Every sequence."""
    return [np.array(x) for x in itertools.product(range(VOCAB), repeat=LENGTH)]


def canvas_code(tokens, masked):
    return np.where(masked, MASK, tokens) @ PLACES


def token_logs(world, tokens, masked):
    """log p(token | what is shown) of every position."""
    logits = world.logits[canvas_code(tokens, masked)]
    return logits[np.arange(LENGTH), tokens] - np.log(np.exp(logits).sum(axis=1))


def policy_chances(world, kind, tokens, masked, left):
    """Probability of each position under the policy."""
    seen = world.seen[canvas_code(tokens, masked)][:, 0]
    utilities = world.utilities[left, masked @ BITS] + seen
    if kind == "one":
        odds = np.where(masked, np.exp(utilities), 0.0)
        return odds / odds.sum()
    return 1 / (1 + np.exp(-utilities))


def posterior_chances(kind, priorities, masked, left):
    """Probability of each position under the posterior."""
    odds = np.where(masked, np.exp(priorities), 0.0)
    if kind == "max":
        return odds / odds.max()
    if kind == "sigmoid":
        return odds / (odds + left - 1)  # odds * (1/left) / (1 - 1/left)
    return odds / odds.sum()


def set_prob(kind, bernoulli, masked, reveal):
    """Probability of revealing exactly `reveal` of what is masked."""
    if not masked.any():
        return 1.0
    if kind == "one":
        return bernoulli[reveal][0] if reveal.sum() == 1 else 0.0
    return np.prod(np.where(reveal, bernoulli, 1 - bernoulli)[masked])


def subsets(masked):
    """Every set of masked positions."""
    for bits in itertools.product([False, True], repeat=int(masked.sum())):
        reveal = masked.copy()
        reveal[masked] = bits
        yield reveal


def close(masked, maskable, ends):
    """What stays masked once everything after a revealed EOS of the response is closed."""
    masked, ended = masked.copy(), False
    for i in range(len(masked)):
        masked[i] &= not ended
        ended |= bool(maskable[i] and ends[i] and not masked[i])
    return masked


class Step(NamedTuple):
    masked: np.ndarray
    reveal: np.ndarray
    left: int


def paths(kind, chances_at, maskable=ALL, ends=NONE, budget=STEPS):
    """Every path of positive probability: its steps, and the probability.

    `chances_at(masked, left)` gives each position's; the last step reveals all.
    """
    found = [((), maskable, 1.0)]
    for left in range(budget, 0, -1):
        longer = []
        for steps, masked, prob in found:
            if left == 1:
                options = [(masked, 1.0)]
            else:
                bernoulli = chances_at(masked, left) if masked.any() else masked
                options = [(r, set_prob(kind, bernoulli, masked, r)) for r in subsets(masked)]
            for reveal, p in options:
                if p > 0:
                    after = close(masked & ~reveal, maskable, ends)
                    longer.append(((*steps, Step(masked, reveal, left)), after, prob * p))
        found = longer
    return [(steps, prob) for steps, _, prob in found]


def posterior_paths(kind, priorities, **rules):
    return paths(
        kind, lambda masked, left: posterior_chances(kind, priorities, masked, left), **rules
    )


def posterior_set_prob(kind, priorities, step):
    """Probability of what the posterior reveals at a step."""
    if step.left == 1 or not step.masked.any():
        return 1.0
    bernoulli = posterior_chances(kind, priorities, step.masked, step.left)
    return set_prob(kind, bernoulli, step.masked, step.reveal)


def log_lik(world, kind, tokens, **rules):
    """log p(tokens): every path of the policy, and what the denoiser says on it; EOS where closed."""
    bernoulli = lambda masked, left: policy_chances(world, kind, tokens, masked, left)  # noqa: E731
    total = 0.0
    for steps, prob in paths(kind, bernoulli, **rules):
        logs = [token_logs(world, tokens, s.masked)[s.reveal].sum() for s in steps]
        closed = rules.get("maskable", ALL) & ~np.any([s.reveal for s in steps], axis=0)
        total += prob * np.exp(sum(logs)) * (tokens[closed] == EOS).all()
    return np.log(total) if total else -np.inf


def path_bound(world, kind, tokens, priorities, kl=1.0, entropy=0.0, step_cost=0.0, **rules):
    """E_q[log p(path, tokens) - log q(path)] over all paths; with weights, the objective."""
    total = 0.0
    for steps, prob in posterior_paths(kind, priorities, **rules):
        value = 0.0
        for masked, reveal, left in steps:
            value += token_logs(world, tokens, masked)[reveal].sum() - step_cost * masked.any()
            if left > 1 and masked.any():
                q = posterior_chances(kind, priorities, masked, left)
                p = policy_chances(world, kind, tokens, masked, left)
                log_q, log_p = (np.log(set_prob(kind, c, masked, reveal)) for c in (q, p))
                value += kl * (log_p - log_q) - entropy * log_q
        total += prob * value
    return total


def state_probs(kind, priorities, **rules):
    """{(step, what is masked then): probability} under the posterior."""
    probs = {}
    for steps, prob in posterior_paths(kind, priorities, **rules):
        for step, now in enumerate(steps):
            at = step, tuple(now.masked.tolist())
            probs[at] = probs.get(at, 0.0) + prob
    return probs
