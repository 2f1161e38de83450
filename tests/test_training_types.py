"""Trainings keep the types of their numbers, however JAX is configured around them."""

from functools import partial

import jax
import numpy as np
import pytest

from mdm_jax.denoisers.base import bind
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.diffusion.corruption import antithetic_times, stratified_times, uniform_times
from mdm_jax.diffusion.objectives import Antithetic, AnyOrder, Complement, Continuous, Discrete
from mdm_jax.orders.variational.forms import MaxNormalised, PlackettLuce, SigmoidScores
from mdm_jax.orders.variational.loss import OrderBatch, OrderParts, init_order, order_loss
from mdm_jax.orders.variational.model import OrderModel
from mdm_jax.orders.variational.objective import OrderObjective
from mdm_jax.orders.variational.posterior import Scorer, ScorerConfig
from mdm_jax.policies.action_distributions import Independent, PlackettLuceStop
from mdm_jax.policies.heuristics import LeftToRight
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.policies.networks.confidence_network import ConfidenceConfig, ConfidenceNetwork
from mdm_jax.policies.networks.policy_network import PolicyConfig, PolicyNetwork
from mdm_jax.rl.grpo import GrpoObjective
from mdm_jax.rl.imitation import Imitation, imitate
from mdm_jax.rl.learner import Learner, iterate
from mdm_jax.rl.rollouts import Prompts
from mdm_jax.sampling.config import SamplerConfig
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
    ids = CanvasIds(MASK, PAD, None)
    loss = partial(denoising_loss, module=MODULE, objective=objective, times=times, ids=ids)
    step = partial(train_step, loss=loss, optimizer=OPTIMIZER, micro_batches=2)
    return traced(step, denoiser().params, TokenBatch(TOKENS, MASKABLE))


def order_parts(form, hidden):
    model = OrderModel(form, BUDGET, MASK, PAD, eos_id=EOS, hidden=hidden)
    scorer = Scorer(ScorerConfig(width=8, heads=2, conditioning="prompt"), VOCAB, LENGTH)
    network = PolicyNetwork(PolicyConfig(width=8, heads=2, hidden=hidden), LENGTH, BUDGET)
    return OrderParts(model, scorer, network)


def order_params(parts):
    shapes = jax.eval_shape(lambda: init_order(parts, jax.random.key(0), LENGTH, VOCAB, 8))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def learn_order(form, hidden=False):
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


TRAININGS = {
    "any order": lambda: train_denoiser(AnyOrder(), stratified_times),
    "continuous": lambda: train_denoiser(Continuous(), antithetic_times),
    "discrete": lambda: train_denoiser(Discrete(), uniform_times),
    "complement": lambda: train_denoiser(Complement(), uniform_times),
    "antithetic": lambda: train_denoiser(Antithetic(), uniform_times),
    "max-normalised": lambda: learn_order(MaxNormalised()),
    "sigmoid": lambda: learn_order(SigmoidScores(), hidden=True),
    "Plackett-Luce": lambda: learn_order(PlackettLuce()),
    "rewards": lambda: learn_policy(ConfidenceNetwork(ConfidenceConfig()), Independent()),
    "rewards, STOP": lambda: learn_policy(
        PolicyNetwork(PolicyConfig(width=8, heads=2), LENGTH, BUDGET), PlackettLuceStop()
    ),
    "imitation": imitate_policy,
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
