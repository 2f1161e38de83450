"""Trainings keep the types of their numbers, however JAX is configured around them."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.denoisers.base import bind
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.diffusion.corruption import antithetic_times, stratified_times, uniform_times
from mdm_jax.diffusion.genmd4 import RATES, Genmd4
from mdm_jax.diffusion.objectives import Antithetic, AnyOrder, Complement, Continuous, Discrete
from mdm_jax.orders.fidelity.config import CriticParts, ReplayConfig, VineConfig, VineParts
from mdm_jax.orders.fidelity.evaluation import fidelities, held_out, prices_between, score
from mdm_jax.orders.fidelity.exploration import FidelityBatch
from mdm_jax.orders.fidelity.teacher_forcing import Forcing, Sequence
from mdm_jax.orders.variational.forms import MaxNormalised, PlackettLuce, SigmoidScores
from mdm_jax.orders.variational.loss import OrderBatch, OrderParts, init_order, order_loss
from mdm_jax.orders.variational.model import OrderModel
from mdm_jax.orders.variational.objective import OrderObjective
from mdm_jax.orders.variational.posterior import Scorer, ScorerConfig
from mdm_jax.policies.action_distributions import Independent, PlackettLuceStop
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.policies.base import stack
from mdm_jax.policies.heuristics import LeftToRight
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.policies.networks.adaptive_network import (
    AdaptiveConfig,
    AdaptiveNetwork,
    blank_features,
)
from mdm_jax.policies.networks.confidence_network import ConfidenceConfig, ConfidenceNetwork
from mdm_jax.policies.networks.critic_network import CriticNetwork
from mdm_jax.policies.networks.policy_network import PolicyConfig, PolicyNetwork
from mdm_jax.rl.grpo import GrpoObjective
from mdm_jax.rl.imitation import Imitation, imitate
from mdm_jax.rl.learner import Learner, iterate
from mdm_jax.rl.rollouts import Prompts
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.training.fidelity import (
    critic_optimizer,
    critic_update,
    init_critic_state,
    vine_update,
)
from mdm_jax.training.losses import CanvasIds, TokenBatch, denoising_loss
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import init_state, train_step

LENGTH, VOCAB, BUDGET = 6, 5, 3
MASK, PAD, EOS = VOCAB, VOCAB + 1, 0
TOKENS, MASKABLE = np.ones((4, LENGTH), np.int32), np.ones((4, LENGTH), bool)
SAMPLER = SamplerConfig(MASK, PAD, BUDGET, temperature=1.0)
MODULE = Transformer(TransformerConfig(width=8, depth=1, heads=2, max_length=LENGTH), VOCAB)
OPTIMIZER = make_optimizer(OptimizerConfig(), 10)


def denoiser():
    """Parameters of zeros: nothing is compiled."""
    shapes = jax.eval_shape(MODULE.init, jax.random.key(0), TOKENS[0], MASKABLE[0])["params"]
    return bind(MODULE, jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes))


def traced(step, params, *args):
    """Types of a state and of the one after it, with metrics."""
    state = jax.eval_shape(lambda params: init_state(params, OPTIMIZER), params)
    return state, *jax.eval_shape(step, state, jax.random.key(1), *args)


def train_denoiser(objective, times):
    ids, learned = CanvasIds(MASK, PAD, None), {}
    if isinstance(objective, Genmd4):
        learned = {RATES: objective.init(LENGTH, VOCAB, MODULE.config.width)}
    loss = partial(denoising_loss, module=MODULE, objective=objective, times=times, ids=ids)
    step = partial(train_step, loss=loss, optimizer=OPTIMIZER, micro_batches=2)
    return traced(step, denoiser().params | learned, TokenBatch(TOKENS, MASKABLE))


def order_parts(form, hidden):
    model = OrderModel(form, BUDGET, MASK, PAD, eos_id=EOS, hidden=hidden)
    scorer = Scorer(ScorerConfig(width=8, heads=2, conditioning="prompt"), VOCAB, LENGTH)
    network = PolicyNetwork(PolicyConfig(width=8, heads=2, hidden=hidden), LENGTH, BUDGET)
    return OrderParts(model, scorer, network)


def order_params(parts):
    shapes = jax.eval_shape(lambda: init_order(parts, jax.random.key(0), LENGTH, VOCAB, 8))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def learn_variational_order(form, hidden=False):
    parts, denoise = order_parts(form, hidden), denoiser()
    objective = OrderObjective(samples=2, start_temperature=1.0, step_cost=0.1)
    loss = partial(order_loss, parts=parts, objective=objective, denoise=denoise)
    params = order_params(parts) | {"denoiser": denoise.params}
    batch = OrderBatch(TOKENS, MASKABLE, np.zeros(4, np.float32))
    return traced(partial(train_step, loss=loss, optimizer=OPTIMIZER), params, batch)


def learned_policy(network, family):
    shown = np.zeros((LENGTH, VOCAB), np.float32), MASKABLE[0], np.int32(1)
    features = jax.eval_shape(network.featurize, *shown)
    shapes = jax.eval_shape(partial(network.init, method="utilities"), jax.random.key(0), features)[
        "params"
    ]
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    return LearnedPolicy(network, params, BUDGET, family=family)


def learn_policy(network, family, **settings):
    learner = Learner(
        policy=learned_policy(network, family),
        objective=GrpoObjective(group=2, **settings),
        sampler=SAMPLER,
        optimizer=OPTIMIZER,
        experts=(LeftToRight(2),),
    )
    step = partial(iterate, learner=learner, verify=lambda canvas, _: canvas[0] == 1)
    prompts = Prompts(np.full((2, LENGTH), MASK, np.int32), np.zeros(2))
    return traced(step, learner.policy.params, prompts, denoiser())


def imitate_policy():
    policy = learned_policy(
        PolicyNetwork(PolicyConfig(width=8, heads=2), LENGTH, BUDGET), Independent()
    )
    step = partial(
        imitate,
        imitation=Imitation(
            policy=policy, teacher=LeftToRight(2), sampler=SAMPLER, optimizer=OPTIMIZER, final=True
        ),
    )
    prompts = Prompts(np.full((2, LENGTH), MASK, np.int32), np.zeros(2))
    return traced(step, policy.params, prompts, denoiser())


ADAPTIVE = AdaptiveNetwork(AdaptiveConfig(width=8, heads=2, canvas=8, max_length=LENGTH))
FORCING = Forcing(MASK, PAD, BUDGET, block_length=3, eos_id=EOS)
CLEAN = FidelityBatch(jnp.asarray(TOKENS), jnp.asarray(MASKABLE), jnp.zeros(4, jnp.float32))


def adaptive_policy():
    features = jax.eval_shape(lambda: blank_features(LENGTH))
    shapes = jax.eval_shape(ADAPTIVE.init, jax.random.key(0), features)["params"]
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    return AdaptivePolicy(ADAPTIVE, zeros)


def learn_by_branches():
    policy, config = adaptive_policy(), VineConfig(states=6, draws=2, chunk=3)
    update = vine_update(policy, denoiser(), VineParts(config, FORCING), OPTIMIZER)
    return traced(update, {"policy": policy.params}, CLEAN)


def learn_by_replay():
    policy, config = adaptive_policy(), ReplayConfig(capacity=8, updates=2, replayed=6, chunk=3)
    parts = CriticParts(config, FORCING, CriticNetwork(ADAPTIVE.config))
    optimizer = critic_optimizer(OptimizerConfig(), OptimizerConfig(), 10)
    update = critic_update(policy, denoiser(), parts, optimizer)

    def start(key):
        return init_critic_state(key, policy, CLEAN, denoiser(), parts, optimizer)

    state = jax.eval_shape(start, jax.random.key(0))
    # a program with options of its own cannot be part of another
    return state, *update.func.eval_shape(state, jax.random.key(1), CLEAN, **update.keywords)


def held_out_score():
    parts = CriticParts(ReplayConfig(chunk=3), FORCING, CriticNetwork(ADAPTIVE.config))
    policies = stack([replace(adaptive_policy(), price=price) for price in (0.1, 1.0)])

    def score_at(key):
        clean = Sequence(jnp.asarray(TOKENS), jnp.asarray(MASKABLE))
        data = held_out(key, clean, denoiser(), parts)
        found, prices = fidelities(policies, data, denoiser(), parts), prices_between(0.1, 1.0, 2)
        return found, score(found, prices, parts)

    return jax.eval_shape(score_at, jax.random.key(0))


TRAININGS = {
    "any order": lambda: train_denoiser(AnyOrder(), stratified_times),
    "continuous": lambda: train_denoiser(Continuous(), antithetic_times),
    "discrete": lambda: train_denoiser(Discrete(), uniform_times),
    "complement": lambda: train_denoiser(Complement(), uniform_times),
    "antithetic": lambda: train_denoiser(Antithetic(), uniform_times),
    "genmd4": lambda: train_denoiser(Genmd4(), stratified_times),
    "genmd4-context": lambda: train_denoiser(Genmd4("context"), stratified_times),
    "max-normalised": lambda: learn_variational_order(MaxNormalised()),
    "sigmoid": lambda: learn_variational_order(SigmoidScores(), hidden=True),
    "Plackett-Luce": lambda: learn_variational_order(PlackettLuce()),
    "rewards": lambda: learn_policy(ConfidenceNetwork(ConfidenceConfig()), Independent()),
    "rewards, STOP": lambda: learn_policy(
        PolicyNetwork(PolicyConfig(width=8, heads=2), LENGTH, BUDGET), PlackettLuceStop()
    ),
    "imitation": imitate_policy,
    "fidelity, branches": learn_by_branches,
    "fidelity, replay": learn_by_replay,
}


@pytest.mark.parametrize("name", TRAININGS)
def test_no_training_depends_on_the_default_types(name):
    """With 64-bit defaults every array has the type that it has without them, and none is combined
    with one of another rank.
    """
    expected = TRAININGS[name]()
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        got = TRAININGS[name]()
    assert got[:2] == expected[:2] and got[1] == got[0]


@pytest.mark.parametrize("name", [name for name in TRAININGS if name.startswith("fidelity")])
def test_metrics_of_fidelity_are_float32(name):
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        metrics = TRAININGS[name]()[2]
    assert {metric: leaf.dtype.name for metric, leaf in metrics.items()} == dict.fromkeys(
        metrics, "float32"
    )


def test_held_out_fidelity_does_not_depend_on_the_default_types():
    expected = held_out_score()
    with jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        assert held_out_score() == expected
