"""Hidden states computed again are those of the generation, and so are loss and gradient."""

from dataclasses import replace
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mdm_jax.denoisers.base import bind
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.errors import MdmError
from mdm_jax.policies.action_distributions import Independent
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.policies.networks.confidence_network import ConfidenceConfig, ConfidenceNetwork
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.rl.episodes import as_episodes
from mdm_jax.rl.grpo import GrpoObjective, grpo_loss
from mdm_jax.rl.hidden import Reader, calls_of
from mdm_jax.rl.imitation import Imitation, imitation_loss
from mdm_jax.rl.learner import Learner
from mdm_jax.rl.recording import RecordingPolicy
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample
from mdm_jax.types import Decision

MASK, PAD, EOS, WINDOW = 4, 5, 3, 6
CONFIG = SamplerConfig(
    MASK, PAD, WINDOW, temperature=1.0, eos_id=EOS, gen_length=WINDOW, record=True
)
CANVASES = np.array([[0, 1, 2, *[MASK] * 6], [1, *[MASK] * 6, PAD, PAD], [*[MASK] * 6, *[PAD] * 3]])
PROMPTS = jnp.asarray(np.tile(CANVASES, (4, 1)))


@pytree_dataclass
class Keep:
    """Another policy's decisions; the hidden states are recorded."""

    policy: object
    wants_hidden = True

    def init(self, length):
        return ()

    def __call__(self, key, observation, state):
        decision = self.policy(key, observation, state)[0]
        return decision._replace(record=observation.hidden), state


@pytree_dataclass
class Hesitant:
    """Masks again, at random."""

    def init(self, length):
        return ()

    def __call__(self, key, observation, state):
        drawn = jax.random.bernoulli(key, 0.5, observation.is_masked.shape)
        return Decision(drawn & observation.eligible, drawn & ~observation.is_masked), state


@pytest.fixture(scope="module")
def world():
    """A denoiser with hidden states, and a policy that reads them."""
    module = Transformer(TransformerConfig(width=8, depth=1, heads=2, max_length=9), 4)
    canvas = jnp.zeros(9, int)
    params = jax.jit(module.init)(jax.random.key(0), canvas, canvas == 0)["params"]
    network = ConfidenceNetwork(ConfidenceConfig(width=8, mlp=16, hidden=True, bias=-0.5))
    nothing = jnp.zeros((WINDOW, 4)), jnp.ones(WINDOW, bool), jnp.int32(1)
    features = network.featurize(*nothing, jnp.zeros((WINDOW, 8)))
    weights = jax.jit(network.init)(jax.random.key(1), features)["params"]
    policy = LearnedPolicy(network, weights, WINDOW, family=Independent())
    return bind(module, params), policy


@jax.jit
def generate(denoise, policy):
    """Four rollouts of each of three prompts: leading axes [3, 4]."""
    keys = jax.random.split(jax.random.key(2), len(PROMPTS))
    rollout = sample(keys, PROMPTS, denoise=denoise, policy=policy, config=CONFIG)
    return jax.tree.map(lambda x: x.reshape(4, 3, *x.shape[1:]).swapaxes(0, 1), rollout)


@jax.jit
def calls_in(rollout, policy):
    of_one = partial(calls_of, policy=policy, config=CONFIG)
    of_group = jax.vmap(of_one, in_axes=(0, None))
    return jax.vmap(of_group)(rollout.trace, jnp.asarray(CANVASES))


@pytest.mark.reuses_keys  # the same generation, with other records
def test_hidden_states_are_those_of_the_generation(world):
    """With windows that begin at different places, what an EOS closed, and what was masked again."""
    denoise, policy = world
    reader = Reader(policy, denoise, PAD)
    blank = generate(denoise, RecordingPolicy(policy)).trace.record
    again = jax.jit(jax.vmap(jax.vmap(jax.vmap(reader.with_hidden))))
    for actor in RecordingPolicy(policy), Hesitant():
        kept = generate(denoise, Keep(actor))
        calls = calls_in(kept, policy)
        found = again(blank, calls).features.hidden
        called = kept.trace.is_masked.any(-1)
        np.testing.assert_allclose(found[called], kept.trace.record[called], atol=1e-5)
        assert called.sum() > 30


@pytest.mark.reuses_keys  # the same generation, with other records
def test_loss_and_gradient_are_those_of_recorded_hidden_states(world):
    denoise, policy = world
    rollout = generate(denoise, RecordingPolicy(policy))
    assert rollout.trace.record.features.hidden is None
    kept = generate(denoise, Keep(RecordingPolicy(policy)))
    recorded = rollout.trace.record
    recorded = recorded._replace(features=recorded.features._replace(hidden=kept.trace.record))
    old = rollout._replace(trace=rollout.trace._replace(record=recorded))
    calls = calls_in(rollout, policy)
    rewards = jax.random.uniform(jax.random.key(3), (3, 4))
    objective, reader = GrpoObjective(group=4, chunk=4), Reader(policy, denoise, PAD)
    episodes = [
        as_episodes(old, rewards, 0, False),
        as_episodes(rollout, rewards, 0, False, calls),
    ]
    loss = partial(grpo_loss, reader=reader, experts=0, objective=objective)
    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
    before, after = (gradient(policy.params, jax.random.key(0), one) for one in episodes)
    chex.assert_trees_all_close(after, before, atol=1e-5)
    assert max(jnp.abs(x).max() for x in jax.tree.leaves(before[1])) > 1e-3

    flat = [jax.tree.map(lambda x: x.reshape(12, *x.shape[2:]), x) for x in (recorded, calls)]
    loss = partial(imitation_loss, reader=reader)
    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
    before = gradient(policy.params, jax.random.key(0), (flat[0], None))
    after = gradient(policy.params, jax.random.key(0), tuple(flat))
    chex.assert_trees_all_close(after, before, atol=1e-5)


def test_a_cache_is_refused(world):
    """Its hidden states are no function of the canvas."""
    cached = replace(CONFIG, block_length=3, cache="dual")
    with pytest.raises(MdmError, match="learns without a cache"):
        Learner(
            policy=world[1], objective=GrpoObjective(), sampler=cached, optimizer=optax.sgd(0.1)
        )
    with pytest.raises(MdmError, match="learns without a cache"):
        Imitation(policy=world[1], teacher=Hesitant(), sampler=cached, optimizer=optax.sgd(0.1))
