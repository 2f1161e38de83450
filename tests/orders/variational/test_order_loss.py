"""What an order is learned from: exact means of the loss's gradient, and a toy that has to be solved."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from order_world import (
    EOS,
    FORMS,
    LENGTH,
    MASK,
    PAD,
    POLICY,
    SCORER,
    STEPS,
    PlainDenoiser,
    path_bound,
    posterior_paths,
    random_world,
    token_logs,
    with_plain_policy,
)

from mdm_jax.denoisers.base import bind
from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.orders.variational.evaluation import FittedOrder, order_bound
from mdm_jax.orders.variational.loss import (
    OrderBatch,
    OrderParts,
    init_order,
    order_loss,
)
from mdm_jax.orders.variational.model import OrderModel, Sequence
from mdm_jax.orders.variational.objective import OrderObjective
from mdm_jax.orders.variational.posterior import Scorer, ScorerConfig
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.policies.networks.policy_network import PolicyConfig, PolicyNetwork
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample
from mdm_jax.training.state import init_state, train_step

RNG = np.random.default_rng(0)
TABLE, SCORES, PREDICTED = RNG.normal(size=(STEPS + 1, LENGTH)), *RNG.normal(size=(2, LENGTH))
WORLD = random_world(5)
WAYS = RNG.normal(size=(2, *WORLD.logits.shape))  # that the denoiser may change in
PARTS = OrderParts(OrderModel(FORMS["sigmoid"], STEPS, MASK, PAD, eos_id=EOS), SCORER, POLICY)
# four rows for three steps: no step may come more often than another
TOKENS = np.array([[0, 1, 1, 0], [1, 0, EOS, EOS], [0, 0, 1, 1], [EOS, 1, 0, 1]])
MASKABLE = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 1], [0, 1, 1, 1]], bool)
OBJECTIVE = OrderObjective(
    samples=3, temperature=0.5, start_temperature=2.0, beta_kl=0.8, anneal=0.5
)
TEMPERATURE = 1.0  # at a quarter of the run, half of the annealing: sqrt(0.5 * 2)
PARAMS = {
    "posterior": {"priority": jnp.float32(SCORES), "predicted_nll": jnp.float32(PREDICTED)},
    "policy": {"table": jnp.float32(TABLE)},
    "denoiser": {"table": jnp.float32(WORLD.logits)},
}


def batch():
    return OrderBatch(jnp.asarray(TOKENS), jnp.asarray(MASKABLE), jnp.full(len(TOKENS), 0.25))


def denoiser(logits=WORLD.logits):
    return bind(PlainDenoiser(), {"table": jnp.float32(logits)})


@partial(jax.jit, static_argnames="objective")
def gradients(params, keys, objective=OBJECTIVE):
    """Of the loss under each key, and its metrics; the denoiser's along WAYS."""
    loss = partial(order_loss, parts=PARTS, objective=objective, denoise=denoiser(0 * WAYS[0]))

    def one(key):
        gradient, metrics = jax.grad(loss, has_aux=True)(params, key, batch())
        along = jnp.tensordot(jnp.float32(WAYS), gradient["denoiser"]["table"], axes=3)
        return gradient | {"denoiser": along}, metrics

    return jax.vmap(one)(keys)


@pytest.fixture(scope="module")
def many():
    with jax.debug_key_reuse(True):
        found = gradients(PARAMS, jax.random.split(jax.random.key(0), 6000))
    return jax.tree.map(lambda x: np.asarray(x, float), found)


def rules():
    """Tokens of each row, and what of them is generated and ended by what."""
    for tokens, maskable in zip(TOKENS, MASKABLE, strict=True):
        yield tokens, {"maskable": maskable, "ends": tokens == EOS}


def mean_objective(scores=SCORES, table=TABLE, ways=(0.0, 0.0), **weights):
    """-sum of the objective over rows / maskable tokens, over all paths."""
    world = with_plain_policy(WORLD, table)
    world = world._replace(logits=world.logits + np.tensordot(ways, WAYS, axes=1))
    values = [
        path_bound(world, "sigmoid", x, scores / TEMPERATURE, **weights, **r) for x, r in rules()
    ]
    return -sum(values) / MASKABLE.sum()


def slope(name, start, **weights):
    """Central differences of the mean objective in each number of one argument."""
    start, found = np.asarray(start, float), []
    for place in np.ndindex(start.shape):
        step = np.zeros(start.shape)
        step[place] = 1e-4
        ends = [mean_objective(**{name: start + sign * step}, **weights) for sign in (1, -1)]
        found.append((ends[0] - ends[1]) / 2e-4)
    return np.reshape(found, start.shape)


def agrees(samples, exact):
    error = samples.std(axis=0) / len(samples) ** 0.5
    return (
        np.abs(samples.mean(axis=0) - exact).max() > 0
        and (np.abs(samples.mean(axis=0) - exact) < 4.5 * error + 1e-6).all()
    )


def test_the_mean_gradient_is_that_of_the_bound_in_every_part(many):
    gradient, _ = many
    exact = {
        "posterior": (gradient["posterior"]["priority"], slope("scores", SCORES, kl=0.8)),
        "policy": (gradient["policy"]["table"], slope("table", TABLE, kl=0.8)),
        "denoiser": (gradient["denoiser"], slope("ways", np.zeros(2), kl=0.8)),
    }
    for name, (samples, slopes) in exact.items():
        assert agrees(samples, slopes), name
        assert np.abs(slopes).max() > 20 * samples.std(axis=0).max() / len(samples) ** 0.5
    assert (gradient["policy"]["table"][:, :2] == 0).all()  # the last step is nobody's choice


def test_the_predicted_nll_is_drawn_to_the_nll_of_each_position(many):
    pull = np.zeros(LENGTH)
    for tokens, rule in rules():
        ends = rule["maskable"] & rule["ends"]
        certain = rule["maskable"] & (np.cumsum(ends) - ends == 0)
        for steps, prob in posterior_paths("sigmoid", SCORES / TEMPERATURE, **rule):
            for step in steps:
                off = PREDICTED + token_logs(WORLD, tokens, step.masked)
                pull += prob * 2 * np.where(step.reveal & certain, off, 0.0)
    assert agrees(many[0]["posterior"]["predicted_nll"], pull / MASKABLE.sum())


def test_metrics_are_the_bound_and_its_parts(many):
    metrics = many[1]
    tokens = MASKABLE.sum() / len(TOKENS)
    world = with_plain_policy(WORLD, TABLE)
    nll = -np.mean(
        [path_bound(world, "sigmoid", x, SCORES / TEMPERATURE, kl=0.0, **r) for x, r in rules()]
    )
    whole, wordy = mean_objective() * tokens, mean_objective(entropy=1.0) * tokens
    stepped = mean_objective(step_cost=1.0) * tokens
    assert agrees(metrics["nelbo"], whole) and agrees(metrics["token_nll"], nll)
    assert agrees(metrics["kl"], whole - nll)
    assert agrees(metrics["posterior_entropy"], whole - wordy)
    assert agrees(metrics["steps_used"], stepped - whole)
    np.testing.assert_allclose(
        metrics["nelbo"], metrics["token_nll"] + metrics["kl"], rtol=1e-4, atol=1e-5
    )


@jax.jit
def frozen_metrics(key, denoise):
    """Where the denoiser is not among the parameters."""
    params = {name: part for name, part in PARAMS.items() if name != "denoiser"}
    loss = partial(order_loss, parts=PARTS, objective=OBJECTIVE, denoise=denoise)
    return loss(params, key, batch())[1]


def test_a_denoiser_learns_where_it_is_among_the_parameters_and_else_stays(many):
    for row, key in enumerate(jax.random.split(jax.random.key(0), 6000)[:3]):
        kept = frozen_metrics(key, denoiser())
        for name, value in kept.items():
            np.testing.assert_allclose(value, many[1][name][row], rtol=1e-5)
        other = frozen_metrics(jax.random.clone(key), denoiser(0 * WAYS[0]))
        assert abs(other["nelbo"] - kept["nelbo"]) > 0.01


def test_without_predictions_none_is_learned(many):
    objective = OrderObjective(samples=2, predicted_nll=False)
    loss = partial(order_loss, parts=PARTS, objective=objective, denoise=denoiser())

    @jax.jit
    @jax.grad
    def pull(predicted_nll):
        posterior = PARAMS["posterior"] | {"predicted_nll": predicted_nll}
        return loss(PARAMS | {"posterior": posterior}, jax.random.key(3), batch())[0]

    assert (pull(jnp.float32(PREDICTED)) == 0).all()
    assert (many[0]["posterior"]["predicted_nll"] != 0).any(axis=0).all()


def test_annealing_by_hand():
    objective = OrderObjective(
        temperature=0.1,
        start_temperature=0.4,
        beta_kl=1.0,
        start_beta_kl=0.2,
        entropy=3.0,
        step_cost=7.0,
    )
    for progress, temperature, beta, entropy in (
        (0.0, 0.4, 0.2, 3.0),
        (0.35, 0.2, 0.6, 1.5),
        (0.7, 0.1, 1.0, 0.0),
        (1.0, 0.1, 1.0, 0.0),
    ):
        np.testing.assert_allclose(
            objective.temperature_at(jnp.float32(progress)), temperature, rtol=1e-5
        )
        weights = objective.weights_at(jnp.float32(progress))
        np.testing.assert_allclose(weights, (beta, entropy, 7.0), rtol=1e-5, atol=1e-6)
    still = OrderObjective(beta_kl=0.5)
    assert still.temperature_at(jnp.float32(0.3)) == np.float32(0.1)
    np.testing.assert_allclose(still.weights_at(jnp.float32(0.3)), (0.5, 0.0, 0.0))


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"anneal": -1.0}, "anneal must be above 0"),
        ({"start_temperature": 0.0}, "start_temperature must be above 0"),
        ({"samples": 1}, "samples must be at least 2"),
        ({"beta_kl": -1.0}, "must be at least 0"),
        ({"start_beta_kl": -0.1}, "must be at least 0"),
        ({"entropy": -0.1}, "must be at least 0"),
        ({"step_cost": -0.1}, "must be at least 0"),
    ],
)
def test_objectives_that_make_no_sense(wrong, message):
    with pytest.raises(ValueError, match=message):
        OrderObjective(**wrong)


# eight tokens that are four pairs of copies: one of each pair has to come before the other
PAIRS = np.repeat(np.array(list(itertools.product(range(4), repeat=4))), 2, axis=1)
ORACLE = oracle_of(PAIRS, 4, 4)
SIZE = {"width": 16, "depth": 1, "heads": 2}
PAIR_TEMPERATURE = 0.2


@pytest.mark.parametrize("budget", [2, 3])
def test_pairs_of_copies_are_learned_apart(budget):
    scorer = Scorer(ScorerConfig(**SIZE, conditioning="prompt"), 4, 8)
    network = PolicyNetwork(PolicyConfig(**SIZE), 8, 3)
    parts = OrderParts(OrderModel(FORMS["max"], budget, 4, 5), scorer, network)
    learned = learn_pairs(jax.random.key(0), parts)
    data = Sequence(PAIRS, np.ones(PAIRS.shape, bool))
    order = FittedOrder(parts, learned, PAIR_TEMPERATURE)
    bound = order_bound(jax.random.key(1), order, data, ORACLE, batch_size=256)
    policy = LearnedPolicy(parts.network, learned["policy"], budget)
    rows = jax.random.split(jax.random.key(2), 4096), jnp.full((4096, 8), 4)
    config = SamplerConfig(4, 5, budget, temperature=1.0)
    rollout = sample(*rows, denoise=ORACLE, policy=policy, config=config)
    canvas = np.asarray(rollout.canvas)
    valid = (canvas[:, ::2] == canvas[:, 1::2]).all(axis=1).mean()
    assert bound.nelbo < 4 * np.log(4) + 0.1
    assert valid > 0.99 and rollout.nfe.max() == budget


def learn_pairs(key, parts, updates=200, batch_size=32):
    """Averaged parameters after so many updates, from the Ancestral start."""
    k_init, k_train = jax.random.split(key)
    objective = OrderObjective(samples=4, temperature=PAIR_TEMPERATURE, start_beta_kl=0.1)
    rate = optax.cosine_decay_schedule(0.02, updates)
    optimizer = optax.flatten(optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate)))
    loss = partial(order_loss, parts=parts, objective=objective, denoise=ORACLE)

    def update(state, index):
        k_rows, k_loss = jax.random.split(jax.random.fold_in(k_train, index))
        tokens = jnp.asarray(PAIRS)[jax.random.randint(k_rows, (batch_size,), 0, len(PAIRS))]
        progress = jnp.full(batch_size, index / updates)
        batch = OrderBatch(tokens, jnp.ones(tokens.shape, bool), progress)
        return train_step(state, k_loss, batch, loss=loss, optimizer=optimizer, ema_decay=0.9)

    state = init_state(init_order(parts, k_init, 8, 4), optimizer)
    return jax.jit(lambda state: jax.lax.scan(update, state, jnp.arange(updates))[0].ema)(state)


@pytest.mark.reuses_keys  # the same update in one piece and row by row
def test_one_canvas_at_a_time_changes_nothing(monkeypatch):
    """To rounding: rows are summed in another order. The denoiser learns along."""

    def update(params, key):
        loss = partial(order_loss, parts=PARTS, objective=OBJECTIVE, denoise=denoiser())
        return jax.grad(loss, has_aux=True)(params, key, batch())

    whole = jax.jit(lambda *args: update(*args))(PARAMS, jax.random.key(3))
    monkeypatch.setattr("mdm_jax.chunks.LIMIT", 1)
    pieces = jax.jit(lambda *args: update(*args))(PARAMS, jax.random.key(3))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-5, atol=1e-6), pieces, whole)
