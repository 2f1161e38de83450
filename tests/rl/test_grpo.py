"""Learning from rewards: known optima, gradients against enumeration, and every setting."""

import itertools
from dataclasses import replace
from functools import partial

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.denoisers.oracle import Oracle, oracle_of
from mdm_jax.errors import MdmError
from mdm_jax.policies.action_distributions import Categorical, Independent, PlackettLuceStop
from mdm_jax.policies.heuristics import LeftToRight
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.policies.networks.confidence_network import ConfidenceConfig, ConfidenceNetwork
from mdm_jax.policies.networks.policy_network import PolicyConfig, PolicyNetwork
from mdm_jax.rl.episodes import as_episodes
from mdm_jax.rl.grpo import GrpoObjective, grpo_loss
from mdm_jax.rl.hidden import Reader
from mdm_jax.rl.imitation import final_labels, imitation_loss
from mdm_jax.rl.learner import Learner, iterate
from mdm_jax.rl.recording import ExpertRecorder
from mdm_jax.rl.reference_kl import MaxConfidence, SoftmaxConfidence, Uniform
from mdm_jax.rl.rewards import Additive, Multiplicative
from mdm_jax.rl.rollouts import GroupConfig, Prompts, generate_groups, rewards_of
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import init_state, train_step

PAIRS = np.array([[a, a, b, b] for a, b in itertools.product(range(4), repeat=2)])
FREE = np.array(list(itertools.product(range(2), repeat=4)))
DIFFERENT = np.array(list(itertools.permutations(range(3))))  # any two at once may collide


class Table(PolicyNetwork):
    """A utility for every number of steps left and every position: quick to compile."""

    @nn.compact
    def utilities(self, features):
        shape = (self.max_steps + 1, self.max_length)
        return self.param("table", nn.initializers.normal(0.1), shape)[features.left]


def world(table, family=None, seed=0, **config):
    """Oracle, policy with fresh parameters, sampler settings, and a verifier by membership."""
    vocab, length = int(table.max()) + 1, table.shape[1]
    oracle = oracle_of(table, vocab, vocab)
    network = Table(PolicyConfig(), length, length)
    features = network.featurize(jnp.zeros((length, vocab)), jnp.ones(length, bool), jnp.int32(1))
    params = network.init(jax.random.key(seed), features, method="utilities")["params"]
    policy = LearnedPolicy(network, params, length, family=family or Independent())
    settings = SamplerConfig(vocab, vocab + 1, length, temperature=1.0, **config)
    return oracle, policy, settings, partial(belongs, jnp.asarray(table))


def belongs(table, canvas, reference):
    return jnp.any(jnp.all(table == canvas, axis=1))


def blank(oracle: Oracle, count: int) -> Prompts:
    length = oracle.table.shape[1]
    return Prompts(jnp.full((count, length), oracle.mask_id), jnp.zeros((count,)))


def train(table, objective, steps, family=None, experts=(), rate=0.03, count=16, seed=1):
    oracle, policy, settings, verify = world(table, family)
    optimizer = make_optimizer(
        OptimizerConfig(learning_rate=rate, warmup=1, weight_decay=0.0), steps * objective.updates
    )
    state = init_state(policy.params, optimizer)
    learner = Learner(
        policy=policy, objective=objective, sampler=settings, optimizer=optimizer, experts=experts
    )

    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(1)
    def step(state, key, prompts, oracle):
        return iterate(state, key, prompts, oracle, learner=learner, verify=verify)

    history = []
    for index in range(steps):
        key = jax.random.fold_in(jax.random.key(seed), index)
        state, metrics = step(state, key, blank(oracle, count), oracle)
        history.append(metrics)
    return replace(policy, params=state.params, policy_temperature=0.0), jax.device_get(history)


def evaluate(table, policy, count=256):
    """Accuracy and mean calls of the trained policy."""
    oracle, _, settings, verify = world(table)
    keys = jax.random.split(jax.random.key(9), count)
    found = sample(
        keys, blank(oracle, count).canvases, denoise=oracle, policy=policy, config=settings
    )
    return float(jax.vmap(partial(verify, reference=None))(found.canvas).mean()), float(
        found.nfe.mean()
    )


@pytest.mark.parametrize("family", [Independent(), PlackettLuceStop()], ids=["bernoulli", "dpls"])
@pytest.mark.parametrize(
    "table, weight, calls",
    [(FREE, 1.0, 1), (PAIRS, 2.0, 2), (DIFFERENT, 0.3, 3)],
    ids=["independent", "pairs", "all different"],
)
def test_reaches_the_optimum_of_small_worlds(table, weight, calls, family):
    """With this seed; one of three ends in a worse pairing under Plackett-Luce."""
    objective = GrpoObjective(reward=Multiplicative(weight), group=16)
    policy, _ = train(table, objective, 80, family, seed=4)
    accuracy, nfe = evaluate(table, policy)
    assert accuracy == 1.0
    assert nfe == calls


def test_without_a_cost_of_calls_answers_are_correct():
    policy, _ = train(PAIRS, GrpoObjective(reward=Multiplicative(0.0), group=16), 60)
    assert evaluate(PAIRS, policy)[0] >= 0.99


def test_the_additive_reward_collapses_to_one_step():
    policy, _ = train(DIFFERENT, GrpoObjective(reward=Additive(2.0), group=16), 80)
    accuracy, nfe = evaluate(DIFFERENT, policy)
    assert nfe == 1.0
    assert accuracy < 0.35  # 6 of 27


def test_one_position_per_step_stays_with_its_reference():
    free = GrpoObjective(reward=Multiplicative(0.0), group=4)
    held = replace(free, reference=SoftmaxConfidence(), beta=10.0)
    far = train(PAIRS, free, 20, Categorical())[1]
    near = train(PAIRS, held, 20, Categorical())[1]
    assert near[-1]["divergence"] < near[0]["divergence"]
    assert far[-1]["divergence"] == 0  # not measured where there is none
    assert all(m["nfe"] == 4 for m in near)


def episodes_of(table, objective, seed=0, experts=(), family=None, count=8):
    oracle, policy, settings, verify = world(table, family, seed)
    groups = GroupConfig(size=objective.group, sampler=settings, experts=experts)

    @jax.jit
    def play(key, oracle, policy):
        rollout = generate_groups(key, blank(oracle, count), oracle, policy, groups)
        correct = jax.vmap(jax.vmap(partial(verify, reference=None)))(rollout.canvas)
        rewards = rewards_of(rollout, correct, objective.reward, table.shape[1])
        return rollout, as_episodes(rollout, rewards, len(experts), objective.by_deviation)

    return policy, *play(jax.random.key(seed + 3), oracle, policy)


def at(episodes, row, step):
    """The action of one step."""
    return jax.tree.map(lambda x: x[row, step], episodes.steps.action)


def gradient(policy, episodes, objective, experts=0, first=True):
    episodes = episodes._replace(first_update=jnp.full(episodes.advantage.shape, first))
    loss = partial(grpo_loss, reader=Reader(policy), experts=experts, objective=objective)
    return jax.jit(jax.grad(loss, has_aux=True))(policy.params, jax.random.key(0), episodes)


@pytest.mark.parametrize("family", [Independent(), PlackettLuceStop(), Categorical()])
def test_first_gradient_is_that_of_plain_reinforce(family):
    objective = GrpoObjective(group=4, chunk=3)
    policy, _, episodes = episodes_of(PAIRS, objective, family=family, count=1)
    got, _ = gradient(policy, episodes, objective)
    actions = jax.device_get(episodes.steps.action)

    def plain(params):
        acting = replace(policy, params=params)
        total = 0.0
        for row in range(4):
            logs = []
            for step in range(4):
                action = jax.tree.map(lambda x, at=(row, step): x[at], actions)
                if action.allowed.any():
                    action = jax.tree.map(jnp.asarray, action)
                    utilities = acting.utilities(action.features)
                    logs.append(family.log_prob(utilities, action.order, action.allowed))
            total += episodes.advantage[row] * sum(logs) / len(logs)
        return -total / 4

    chex.assert_trees_all_close(got, jax.jit(jax.grad(plain))(policy.params), atol=1e-5)


def test_the_ratio_is_exactly_one_at_the_first_update():
    objective = GrpoObjective(group=4)
    policy, _, episodes = episodes_of(PAIRS, objective)
    loss = partial(grpo_loss, reader=Reader(policy), experts=0, objective=objective)
    value, _ = jax.jit(loss)(policy.params, jax.random.key(0), episodes)
    weight = episodes.active / episodes.active.sum(1, keepdims=True)
    expected = -jnp.mean(jnp.sum(weight * episodes.advantage[:, None], axis=1))
    np.testing.assert_allclose(value, expected, atol=1e-7)


def test_expected_gradient_is_that_of_the_expected_reward():
    """One step decides everything here, so every action can be listed."""
    table, objective = PAIRS[:, :2][::4], GrpoObjective(reward=Multiplicative(0.5), group=512)
    policy, _, episodes = episodes_of(table, objective, seed=2, count=64)
    got = gradient(policy, episodes, objective)[0]
    factor = 2**0.0, (1 / 2) ** 0.5  # of one and of two calls

    def expected(params):
        acting = replace(policy, params=params)
        action = at(episodes, 0, 0)
        utilities = acting.utilities(action.features)
        total = 0.0
        for drawn in itertools.product([0, 1], repeat=2):
            log = Independent().log_prob(utilities, jnp.array(drawn), action.allowed)
            # both at once: right one time in four. one: the other follows. none: both in the last step
            worth = {2: factor[0] / 4, 1: factor[1], 0: factor[1] / 4}[sum(drawn)]
            total += jnp.exp(log) * worth
        return -total

    known = jax.jit(jax.grad(expected))(policy.params)
    chex.assert_trees_all_close(got, known, atol=2e-3)
    size = np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(known)))
    assert size > 0.01  # far above what is forgiven


def test_chunks_change_nothing():
    objective = GrpoObjective(group=4)
    policy, _, episodes = episodes_of(PAIRS, objective)
    whole = gradient(policy, episodes, objective)[0]
    parts = gradient(policy, episodes, replace(objective, chunk=1))[0]
    chex.assert_trees_all_close(whole, parts, atol=1e-6)


KNOBS = {
    "clip": {"clip": 0.01},
    "per_position": {"per_position": True},
    "reference": {"reference": MaxConfidence(), "beta": 1.0},
    "uniform": {"reference": Uniform(), "beta": 1.0},
}


@pytest.mark.parametrize("change", KNOBS.values(), ids=KNOBS)
def test_every_knob_changes_the_gradient(change):
    base = GrpoObjective(group=4)
    policy, _, episodes = episodes_of(PAIRS, base)
    before = gradient(policy, episodes, base)[1]["log_probs"] + jnp.float32(0.1)
    if "per_position" in change:
        before = jnp.zeros_like(before)
    later = episodes._replace(steps=episodes.steps._replace(old_log_probs=before))
    found = [
        gradient(policy, later, one, first=False)[0] for one in (base, replace(base, **change))
    ]
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(*found, atol=1e-7)


def test_rewards_and_deviations_change_the_advantages():
    base = GrpoObjective(group=4)
    found = {
        str(change): episodes_of(PAIRS, replace(base, **change))[2].advantage
        for change in (
            {},
            {"by_deviation": True},
            {"reward": Multiplicative(3.0)},
            {"reward": Additive(1.0)},
        )
    }
    assert len({tuple(np.asarray(x).tolist()) for x in found.values()}) == 4
    for advantage in found.values():
        np.testing.assert_allclose(advantage.reshape(8, 4).sum(1), 0, atol=1e-5)


def test_experts_are_learned_from():
    objective = GrpoObjective(reward=Multiplicative(0.0), group=4, clip=0.2)
    experts = (LeftToRight(3),)
    policy, rollout, episodes = episodes_of(DIFFERENT, objective, experts=experts)
    assert rollout.nfe.shape == (8, 5)
    np.testing.assert_array_equal(rollout.nfe[:, -1], 3)
    np.testing.assert_array_equal(episodes.by_expert.reshape(8, 5).sum(0), [0, 0, 0, 0, 8])
    np.testing.assert_array_equal(episodes.steps.action.order[4::5][:, 1], [[0, 1, 0]] * 8)
    np.testing.assert_array_equal(
        episodes.steps.action.allowed[4::5][:, 1], [[False, True, True]] * 8
    )
    _, metrics = gradient(policy, episodes, objective, experts=1)
    logs = metrics["log_probs"].sum(-1)[episodes.by_expert]
    assert (logs >= -np.log(5) - 1e-6).all()
    alone = train(DIFFERENT, objective, 4)[0].params
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(
            train(DIFFERENT, objective, 4, experts=experts)[0].params, alone
        )


def test_equal_rewards_teach_nothing():
    objective = GrpoObjective(reward=Multiplicative(0.0), group=4)
    policy, history = train(FREE, objective, 3)
    assert all(m["accuracy"] == 1 and m["groups_that_differ"] == 0 for m in history)
    chex.assert_trees_all_equal(policy.params, world(FREE)[1].params)


def test_imitation_reproduces_the_teacher():
    objective = GrpoObjective(group=2)
    oracle, policy, settings, _ = world(DIFFERENT)
    policy, rollout, _ = episodes_of(DIFFERENT, objective, experts=(LeftToRight(3),))
    actions = jax.tree.map(lambda x: x[:, -1], rollout.trace.record)
    optimizer = make_optimizer(OptimizerConfig(learning_rate=0.05, warmup=1), 100)
    state, loss = (
        init_state(policy.params, optimizer),
        partial(imitation_loss, reader=Reader(policy)),
    )
    step = jax.jit(partial(train_step, loss=loss, optimizer=optimizer))
    for index in range(100):
        state, _ = step(state, jax.random.key(index), (actions, None))
    learned = replace(policy, params=state.params, policy_temperature=0.0)
    keys = jax.random.split(jax.random.key(0), 4)
    found = sample(keys, blank(oracle, 4).canvases, denoise=oracle, policy=learned, config=settings)
    np.testing.assert_array_equal(found.revealed_at, [[0, 1, 2]] * 4)


def test_final_labels_reveal_what_equals_the_final_answer():
    _, rollout, _ = episodes_of(PAIRS, GrpoObjective(group=2))
    one = jax.tree.map(lambda x: x[0], rollout)
    action = final_labels(one, jnp.full_like(one.canvas, 4), 4)
    is_final = one.trace.is_masked & (one.trace.proposal == one.canvas[:, None])
    np.testing.assert_array_equal(action.order, is_final)


def fixed(logits, canvas, valid, positions=None):
    """A denoiser with the same logits whatever the canvas."""
    return logits if positions is None else logits[positions]


def test_final_labels_of_a_response_that_ends_are_its_canvas():
    """Positions that an EOS closed are never revealed, and their final token is EOS all the same."""
    _, policy, config, _ = world(PAIRS)
    mask, pad, eos = config.mask_id, config.pad_id, 3
    config = replace(config, temperature=0.0, eos_id=eos, gen_length=4, record=True)
    canvases = jnp.array([[1, 1, *[mask] * 4, pad], [2, *[mask] * 4, pad, pad]])
    denoise = jax.tree_util.Partial(fixed, jax.nn.one_hot(jnp.array([0, 1, 2, 3, 3, 3, 3]), 4))
    recorder = ExpertRecorder(LeftToRight(4), policy)
    keys = jax.random.split(jax.random.key(0), 2)
    rollout = sample(keys, canvases, denoise=denoise, policy=recorder, config=config)
    assert rollout.canvas[:, :6].tolist() == [[1, 1, 2, 3, 3, 3], [2, 1, 2, 3, 3, pad]]
    assert rollout.nfe.tolist() == [2, 3]
    action = final_labels(rollout, canvases, mask)
    assert action.order[:, 0].tolist() == [[1, 1, 1, 1]] * 2
    assert action.order[1, 1].tolist() == [0, 1, 1, 1]


def test_one_ratio_per_position_needs_independent_positions():
    objective = GrpoObjective(group=2, per_position=True)
    policy, _, episodes = episodes_of(PAIRS, objective, family=PlackettLuceStop(), count=1)
    with pytest.raises(MdmError, match="per_position needs independent positions"):
        gradient(policy, episodes, objective)


def test_an_expert_that_reveals_several_teaches_nothing_to_a_policy_of_one():
    """Its actions have probability 0 under the policy; the mixture's likelihood stays finite."""
    objective = GrpoObjective(reward=Multiplicative(0.0), group=2)
    experts = (LeftToRight(2),)
    policy, _, episodes = episodes_of(PAIRS, objective, family=Categorical(), experts=experts)
    episodes = episodes._replace(advantage=jnp.where(episodes.by_expert, 1.0, 0.0))
    slopes, metrics = gradient(policy, episodes, objective, experts=1)
    logs = metrics["log_probs"][..., 0][episodes.by_expert]
    np.testing.assert_allclose(logs[:, 0], -np.log(3), rtol=1e-6)
    chex.assert_trees_all_close(slopes, jax.tree.map(jnp.zeros_like, slopes), atol=1e-7)


def test_a_confidence_policy_learns_what_is_certain():
    """Reveal where the denoiser is sure: pairs whose first halves are shown."""
    oracle, _, settings, verify = world(PAIRS)
    network = ConfidenceNetwork(ConfidenceConfig(width=16, mlp=32))
    features = network.featurize(jnp.zeros((4, 4)), jnp.ones(4, bool), jnp.int32(1))
    params = network.init(jax.random.key(0), features)["params"]
    policy = LearnedPolicy(network, params, 4)
    optimizer = make_optimizer(OptimizerConfig(learning_rate=0.02, warmup=1), 80)
    state = init_state(params, optimizer)
    learner = Learner(
        policy=policy, objective=GrpoObjective(), sampler=settings, optimizer=optimizer
    )
    step = jax.jit(partial(iterate, learner=learner, verify=verify))
    shown = jnp.tile(jnp.array([[0, 4, 3, 4]]), (16, 1))
    for index in range(40):
        state, metrics = step(state, jax.random.key(index), Prompts(shown, jnp.zeros(16)), oracle)
    assert metrics["accuracy"] == 1
    assert metrics["nfe"] < 1.2


@pytest.mark.parametrize(
    "change", [{"group": 1}, {"updates": 0}, {"clip": 0.0}, {"beta": -1.0}, {"chunk": 0}]
)
def test_values_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match=str(next(iter(change)))):
        GrpoObjective(**change)
