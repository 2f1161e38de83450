"""The bound and its gradient against every path of a small world, all enumerated."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from order_world import (
    ALL,
    BITS,
    EOS,
    FORMS,
    LENGTH,
    MASK,
    NONE,
    PAD,
    PLACES,
    STEPS,
    Tabular,
    log_lik,
    path_bound,
    posterior_paths,
    posterior_set_prob,
    random_world,
    sequences,
    state_probs,
    token_logs,
    utilities_of,
)
from scipy import stats
from scipy.special import rel_entr

from mdm_jax.diffusion.objectives import Discrete
from mdm_jax.orders.variational.elbo import (
    Draws,
    Weights,
    draw_terms,
    leave_one_out,
    path_values,
    predicted_nll_loss,
    surrogate,
)
from mdm_jax.orders.variational.forms.base import StepTerms, close_after
from mdm_jax.orders.variational.model import OrderModel, Sequence, always_revealed, response
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.sampling.canvas import closed_by_eos

WORLD = random_world()
PRIORITIES = np.array([0.3, -0.4, 0.9, 0.1])
BOUND = Weights(1.0, 0.0, 0.0)
COUNT = 1500  # draws that are looked at
PATHS = 4  # that share a step in an estimate of the gradient
THETA = {"posterior": LENGTH, "policy": 2, "denoiser": 2}  # numbers that gradients are taken of
WAYS = np.random.default_rng(1)  # directions in the tables of policy and denoiser
UTILITY_WAYS = WAYS.normal(size=(2, *WORLD.utilities.shape))
LOGIT_WAYS = WAYS.normal(size=(2, *WORLD.logits.shape))
# clean tokens and what of them is generated: nothing ends, an end, two ends, a prompt, an EOS in one
CASES = {
    "plain": ([0, 1, 1, 0], ALL),
    "ends": ([1, 0, EOS, EOS], ALL),
    "ends early": ([EOS, EOS, EOS, EOS], ALL),
    "prompt": ([0, 1, 0, 1], np.array([True, True, False, True])),
    "prompt with EOS": ([EOS, 0, 1, EOS], np.array([False, True, True, True])),
}


def case(name):
    tokens, maskable = np.array(CASES[name][0]), CASES[name][1]
    return tokens, {"maskable": maskable, "ends": tokens == EOS}


@partial(jax.jit, static_argnames=("model", "count"))
def many_draws(key, tokens, maskable, priorities, table, utilities, model, count):
    """`draw_terms` of every step, `count` times: draws with axes [count, step]."""
    return jax.vmap(
        lambda key: draw_terms(
            key,
            Sequence(tokens, maskable),
            priorities,
            jnp.arange(model.budget),
            model=model,
            denoise=Tabular(table),
            utilities_of=utilities_of(utilities),
        )
    )(jax.random.split(key, count))


def drawn(kind, tokens, maskable=ALL, ends=NONE, world=WORLD, priorities=PRIORITIES, budget=STEPS):
    """NumPy draws of `many_draws`. `ends` are those of the tokens, or nowhere."""
    model = OrderModel(FORMS[kind], budget, MASK, PAD, eos_id=EOS)
    tokens = np.where(ends, EOS, tokens)
    arrays = (tokens, maskable, *map(np.float32, (priorities, world.logits, world.utilities)))
    return jax.tree.map(
        np.asarray, many_draws(jax.random.key(0), *map(jnp.asarray, arrays), model, COUNT)
    )


def by_state(draws):
    """{(step, what is masked): (rows that were there, its terms and token costs [4, length])}."""
    found = {}
    for step in range(draws.log_prob.shape[1]):
        codes = draws.is_masked[:, step] @ BITS
        for code in np.unique(codes):
            rows = np.flatnonzero(codes == code)
            all_ = np.stack([x[rows, step] for x in (*draws.terms, draws.nll)], axis=1)
            np.testing.assert_allclose(all_, np.broadcast_to(all_[0], all_.shape), atol=1e-6)
            found[step, tuple(draws.is_masked[rows[0], step].tolist())] = rows, all_[0]
    return found


def exact_bound(draws, probs):
    """Token part and KL of the bound: each state's terms, weighted with its exact probability."""
    found = by_state(draws)
    assert found.keys() == probs.keys()
    parts = {at: terms for at, (_, terms) in found.items()}
    tokens = -sum(p * np.sum(parts[at][0] * parts[at][3]) for at, p in probs.items())
    return tokens, sum(p * np.sum(parts[at][1]) for at, p in probs.items())


@pytest.mark.parametrize("kind", ["max", "one"])
@pytest.mark.parametrize("ends", [False, True])
def test_the_model_sums_to_one_over_all_sequences(kind, ends):
    shut = lambda tokens: tokens == EOS if ends else NONE  # noqa: E731
    total = sum(np.exp(log_lik(WORLD, kind, x, ends=shut(x))) for x in sequences())
    np.testing.assert_allclose(total, 1.0, rtol=1e-9)


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("name", CASES)
def test_integrating_the_reveal_out_gives_the_bound_over_all_paths(kind, name):
    tokens, rules = case(name)
    draws, probs = drawn(kind, tokens, **rules), state_probs(kind, PRIORITIES, **rules)
    tokens_part, kl = exact_bound(draws, probs)
    exact = path_bound(WORLD, kind, tokens, PRIORITIES, **rules)
    np.testing.assert_allclose(tokens_part - kl, exact, rtol=2e-6)
    assert kl > 0.01 and exact < log_lik(WORLD, kind, tokens, **rules)
    entropy = sum(p * by_state(draws)[at][1][2].sum() for at, p in probs.items())
    with_entropy = path_bound(WORLD, kind, tokens, PRIORITIES, entropy=1.0, **rules)
    np.testing.assert_allclose(tokens_part - kl + entropy, with_entropy, rtol=2e-6)


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("name", ["plain", "ends"])
def test_paths_are_drawn_with_the_probability_that_is_reported(kind, name):
    tokens, rules = case(name)
    draws, probs = drawn(kind, tokens, **rules), state_probs(kind, PRIORITIES, **rules)
    found = by_state(draws)
    for step in range(1, STEPS):
        positions = [at for at in probs if at[0] == step]
        counts = [len(found[at][0]) for at in positions]
        expected = [COUNT * probs[at] for at in positions]
        assert len(positions) == 1 or stats.chisquare(counts, expected).pvalue > 1e-3
    reached = {}  # log-probabilities of the ways to reach a state
    for steps, _ in posterior_paths(kind, PRIORITIES, **rules):
        for end, now in enumerate(steps):
            ways = reached.setdefault((end, tuple(now.masked.tolist())), set())
            so_far = [np.log(posterior_set_prob(kind, PRIORITIES, s)) for s in steps[:end]]
            ways.add(round(sum(so_far), 9))
    for at, (rows, _) in found.items():
        reported = np.unique(draws.log_prob[rows, at[0]].round(4))
        ways = np.array(sorted(reached[at]))
        assert np.abs(reported[:, None] - ways[None]).min(axis=1).max() < 2e-4
        assert len(reported) <= len(ways)


def exact_gradient(kind, tokens, rules, weights):
    """Of the objective: central differences along each number of THETA."""

    def value(theta):
        logits = WORLD.logits + np.tensordot(theta["denoiser"], LOGIT_WAYS, axes=1)
        utilities = WORLD.utilities + np.tensordot(theta["policy"], UTILITY_WAYS, axes=1)
        world = WORLD._replace(logits=logits, utilities=utilities)  # the policy sees what it saw
        s = PRIORITIES + theta["posterior"]
        return path_bound(world, kind, tokens, s, **weights._asdict(), **rules)

    def slope(name, place):
        step = {n: np.zeros(k) for n, k in THETA.items()}
        step[name][place] = 1e-4
        minus = {n: -x for n, x in step.items()}
        return (value(step) - value(minus)) / 2e-4

    return {name: np.array([slope(name, i) for i in range(k)]) for name, k in THETA.items()}


def expected_costs(kind, tokens, rules):
    """-log p(token) of each position when it is revealed, in the mean over paths: the best prediction."""
    costs = np.zeros(LENGTH)
    for steps, prob in posterior_paths(kind, PRIORITIES, **rules):
        for step in steps:
            costs[step.reveal] -= prob * token_logs(WORLD, tokens, step.masked)[step.reveal]
    return costs


@partial(jax.jit, static_argnames=("model", "count"))
def gradient_estimates(key, tokens, maskable, predictions, weights, model, count):
    """`surrogate` with each prediction, then without a baseline: {name: [count, losses, THETA]}."""
    tables = (WORLD.logits, LOGIT_WAYS, WORLD.utilities, UTILITY_WAYS, PRIORITIES)
    logits, logit_ways, utilities, utility_ways, priorities = map(jnp.float32, tables)

    def losses(theta, key, stop):
        draws = draw_terms(
            key,
            Sequence(tokens, maskable),
            priorities + theta["posterior"],
            jnp.full((PATHS,), stop),
            model=model,
            denoise=Tabular(logits, logit_ways, theta["denoiser"]),
            utilities_of=utilities_of(utilities, utility_ways, theta["policy"]),
        )
        with_baseline = jax.vmap(lambda f: surrogate(draws, weights, f, model.budget))(predictions)
        values = path_values(draws, weights, jnp.zeros(LENGTH))
        plain = jax.lax.stop_gradient(values) * draws.log_prob + values
        return jnp.stack([*with_baseline, -model.budget * jnp.mean(plain)])

    theta = {name: jnp.zeros(k) for name, k in THETA.items()}
    rows = jax.random.split(key, count), jnp.arange(count) % model.budget
    return jax.vmap(lambda *row: jax.jacrev(losses)(theta, *row))(*rows)


@pytest.mark.parametrize(
    "kind, name, weights",
    [
        ("max", "plain", BOUND),
        ("sigmoid", "ends", Weights(0.3, 0.4, 0.2)),
        ("one", "prompt", BOUND),
    ],
)
def test_the_gradient_is_unbiased_whatever_the_prediction_and_the_baseline_steadies_it(
    kind, name, weights
):
    tokens, rules = case(name)
    model = OrderModel(FORMS[kind], STEPS, MASK, PAD, eos_id=EOS)
    sequence = Sequence(jnp.asarray(tokens), jnp.asarray(rules["maskable"]))
    free = np.asarray(always_revealed(sequence, model))
    best = expected_costs(kind, tokens, rules)
    predictions = np.stack([0 * best, np.array([3.0, -2.0, 1.0, 4.0]), best]) * free
    weights_ = Weights(*map(jnp.float32, weights))
    found = gradient_estimates(
        jax.random.key(1), *sequence, jnp.float32(predictions), weights_, model, 21_000
    )
    exact = exact_gradient(kind, tokens, rules, weights)
    for part, estimates in jax.tree.map(lambda x: np.asarray(x, float), found).items():
        error = estimates.std(axis=0) / len(estimates) ** 0.5
        assert (np.abs(exact[part]) > 10 * error.max(axis=0)).any()  # there is something to see
        z = (-estimates.mean(axis=0) - exact[part]) / np.maximum(error, 1e-7)
        assert np.abs(z).max() < 4.5, part
    none, _, good, plain = np.asarray(found["posterior"]).var(axis=0).sum(axis=-1)
    assert none < 0.95 * plain and good < 0.9 * none


def world_of_utilities(utilities):
    """The world with this policy, which sees nothing of the denoiser."""
    logits = WORLD.logits - WORLD.logits[:, :, :1]
    return WORLD._replace(
        logits=logits, seen=logits, utilities=np.broadcast_to(utilities, WORLD.utilities.shape)
    )


def test_equal_scores_and_the_iid_policy_are_the_discrete_diffusion():
    left = np.maximum(np.arange(LENGTH + 2), 1)
    iid = -np.log(np.maximum(left - 1, 1e-9))  # logit(1 / left)
    world = world_of_utilities(iid[:, None, None])
    tokens, flat = np.array(CASES["plain"][0]), np.zeros(LENGTH)
    draws = drawn("sigmoid", tokens, world=world, priorities=flat)
    tokens_part, kl = exact_bound(draws, state_probs("sigmoid", flat))
    discrete = 0.0
    for step in range(1, STEPS + 1):
        rate = step / STEPS
        draw = Discrete(STEPS).draw(jax.random.key(2), jnp.asarray(ALL), jnp.float32(rate - 0.1))
        for masked in map(np.array, itertools.product([False, True], repeat=LENGTH)):
            prob = rate ** masked.sum() * (1 - rate) ** (~masked).sum()
            nll = -token_logs(world, tokens, masked)[masked].sum()
            discrete += prob * float(draw[1][0]) * nll / STEPS
    assert abs(kl) < 1e-6
    np.testing.assert_allclose(-tokens_part, discrete, rtol=1e-5)


def test_one_at_a_time_with_a_step_for_each_is_a_mean_over_permutations():
    """And where the policy has the posterior's numbers, nothing is lost to it."""
    world, (tokens, rules) = world_of_utilities(PRIORITIES), case("prompt")
    assert rules["maskable"].sum() == STEPS
    probs = state_probs("one", PRIORITIES, **rules)
    tokens_part, kl = exact_bound(drawn("one", tokens, world=world, **rules), probs)
    assert abs(kl) < 1e-6
    expected, odds = 0.0, np.exp(PRIORITIES)
    for order in itertools.permutations(np.flatnonzero(rules["maskable"])):
        masked, prob, logs = rules["maskable"].copy(), 1.0, 0.0
        for place in order:
            prob *= odds[place] / odds[masked].sum()
            logs += token_logs(world, tokens, masked)[place]
            masked[place] = False
        expected += prob * logs
    np.testing.assert_allclose(tokens_part, expected, rtol=1e-5)
    exact = path_bound(world, "one", tokens, PRIORITIES, **rules)
    np.testing.assert_allclose(exact, expected, rtol=1e-9)
    worse = drawn("one", tokens, world=world, priorities=-PRIORITIES, **rules)
    assert exact_bound(worse, state_probs("one", -PRIORITIES, **rules))[1] > 0.1


def test_closing_is_what_the_sampler_does_to_the_canvas():
    rng = np.random.default_rng(3)
    maskable = np.sort(rng.random((60, 8)) < 0.7, axis=1)  # a prompt, then the response
    tokens = rng.integers(0, EOS + 1, (60, 8))
    tokens[np.cumsum(maskable & (tokens == EOS), axis=1) > 0] = EOS
    is_masked = maskable & (rng.random((60, 8)) < 0.6)

    @jax.jit
    @jax.vmap
    def both(tokens, maskable, is_masked):
        canvas = jnp.where(is_masked, MASK, tokens)
        shut = jnp.where(closed_by_eos(canvas, maskable, MASK, EOS), EOS, canvas)
        return close_after(is_masked, maskable, tokens == EOS), shut

    left, canvas = map(np.asarray, both(*map(jnp.asarray, (tokens, maskable, is_masked))))
    np.testing.assert_array_equal(left, canvas == MASK)
    np.testing.assert_array_equal(tokens[~left], canvas[~left])
    assert 20 < is_masked.sum() - left.sum() < is_masked.sum() - 20


@pytest.mark.parametrize("name", CASES)
def test_only_what_every_path_reveals_may_be_predicted(name):
    tokens, rules = case(name)
    every = rules["maskable"].copy()
    for steps, _ in posterior_paths("sigmoid", PRIORITIES, **rules):
        every &= np.any([s.reveal for s in steps], axis=0)
    model = OrderModel(FORMS["sigmoid"], STEPS, MASK, PAD, eos_id=EOS)
    sequence = Sequence(jnp.asarray(tokens), jnp.asarray(rules["maskable"]))
    np.testing.assert_array_equal(always_revealed(sequence, model), every)
    assert (every.sum() < rules["maskable"].sum()) == name.startswith("ends")
    endless = OrderModel(FORMS["sigmoid"], STEPS, MASK, PAD)
    np.testing.assert_array_equal(always_revealed(sequence, endless), rules["maskable"])


@pytree_dataclass
class Showing(Tabular):
    """A tabular denoiser with hidden states: its logits, negated."""

    def with_hidden(self, canvas, valid, positions=None):
        logits = self(canvas, valid, positions)
        return logits, -logits


def test_a_window_is_the_response_and_hidden_states_go_to_the_policy_that_asks():
    tokens, maskable, positions = [1, 0, 1, 1], np.array([False, True, True, False]), [1, 2]
    model = OrderModel(FORMS["max"], 2, MASK, PAD, window=2, hidden=True)
    sequence = Sequence(jnp.asarray(tokens), jnp.asarray(maskable))
    assert response(sequence, model).tolist() == positions

    @jax.jit
    def first_step(key, priorities):
        return draw_terms(
            key,
            sequence,
            priorities,
            jnp.array([0]),
            model=model,
            denoise=Showing(jnp.float32(WORLD.logits)),
            utilities_of=lambda logits, is_masked, left, hidden: hidden[:, 0],
        )

    draws = first_step(jax.random.key(5), jnp.float32(PRIORITIES[positions]))
    shown = -WORLD.logits[np.where(maskable, MASK, tokens) @ PLACES][positions, 0]
    q, p = np.exp(PRIORITIES[positions] - PRIORITIES[positions].max()), 1 / (1 + np.exp(-shown))
    kl = rel_entr(q, p) + rel_entr(1 - q, 1 - p)
    nll = -token_logs(WORLD, tokens, maskable)[positions]
    for got, expected in ((draws.terms.reveal, q), (draws.terms.kl, kl), (draws.nll, nll)):
        np.testing.assert_allclose(got[0], expected, rtol=1e-5)


def a_few_draws(paths=5):
    """Draws that no model made."""
    rng = np.random.default_rng(7)
    table = lambda: jnp.float32(rng.random((paths, LENGTH)))  # noqa: E731
    is_masked = jnp.asarray(np.arange(paths)[:, None] > np.arange(LENGTH))
    terms = StepTerms(table() * is_masked, table(), table())
    return Draws(terms, table() * 3, table()[:, 0], is_masked)


def test_values_of_paths_by_hand():
    draws, predicted_nll = a_few_draws(), jnp.array([1.0, 2.0, 0.0, 0.5])
    weights = Weights(*map(jnp.float32, (0.5, 2.0, 0.25)))
    got = jax.jit(path_values)(draws, weights, predicted_nll)
    for path in range(5):
        expected = -0.25 * (path > 0)
        for i in range(LENGTH):
            reveal, kl, entropy = (float(x[path, i]) for x in draws.terms)
            expected += (
                2 * entropy - 0.5 * kl - reveal * float(draws.nll[path, i] - predicted_nll[i])
            )
        np.testing.assert_allclose(got[path], expected, rtol=1e-5)


def test_the_baseline_is_the_mean_of_the_others():
    values = jnp.array([1.0, 4.0, -2.0, 5.0])
    np.testing.assert_allclose(
        leave_one_out(values), [1 - 7 / 3, 4 - 4 / 3, -2 - 10 / 3, 4.0], rtol=1e-6
    )
    assert leave_one_out(jnp.array([3.0])) == 0


def test_the_prediction_is_best_at_the_conditional_mean_and_moves_nothing_else():
    draws = a_few_draws()
    reveal, nll = np.asarray(draws.terms.reveal), np.asarray(draws.nll)
    mean = np.float32((reveal * nll).sum(axis=0) / np.maximum(reveal.sum(axis=0), 1e-9))

    @jax.jit
    def gradients(predicted_nll, terms, nll):
        loss = lambda f, t, n: predicted_nll_loss(draws._replace(terms=t, nll=n), f, 3)  # noqa: E731
        weights = Weights(*map(jnp.float32, BOUND))
        inner = jax.grad(lambda f: surrogate(draws, weights, f, 3))(predicted_nll)
        return inner, *jax.grad(loss, argnums=(0, 1, 2))(predicted_nll, terms, nll)

    inner, at_mean, *others = gradients(mean, draws.terms, draws.nll)
    np.testing.assert_allclose(at_mean, 0.0, atol=1e-5)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves((inner, others)))
    off = gradients(mean + 1, draws.terms, draws.nll)[1]
    np.testing.assert_allclose(off, 3 * 2 / 5 * reveal.sum(axis=0), rtol=1e-5)


def test_a_model_takes_a_step_at_least():
    with pytest.raises(ValueError, match="budget must be at least one step, got 0"):
        OrderModel(FORMS["max"], 0, MASK, PAD)
