"""Pairwise policies against plain twins, on random dependences."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_world import LENGTH, ROWS, keys, observe, reveal

from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.policies.heuristics import ConfidenceThreshold, TopConfidence
from mdm_jax.policies.networks.pair_network import PairConfig, PairNetwork
from mdm_jax.policies.pairwise.adas import Adas
from mdm_jax.policies.pairwise.dapd import Dapd
from mdm_jax.policies.pairwise.dawn import Dawn
from mdm_jax.policies.pairwise.demask import Demask
from mdm_jax.policies.pairwise.predicted import PredictedPairs
from mdm_jax.policies.switch import as_switch
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample

CHECKED = 60  # rows
COPIES = oracle_of(np.tile(np.indices((3, 3, 3)).reshape(3, -1).T, 2), 3, 3)


def dependences():
    """Sparse, not symmetric, and of very different sizes."""
    rng = np.random.default_rng(3)
    found = rng.exponential(size=(ROWS, LENGTH, LENGTH)) * rng.uniform(0, 0.1, (ROWS, 1, LENGTH))
    return np.where(rng.random(found.shape) < 0.5, found, 0.0) * ~np.eye(LENGTH, dtype=bool)


def adas_twin(policy, c, a, eligible, masked, o):
    n = {TopConfidence: -(-eligible.sum() // 5), ConfidenceThreshold: 1}[type(policy.base)]
    if isinstance(policy.base, ConfidenceThreshold):
        n = max(n, (eligible & (c >= policy.base.threshold)).sum())
    chosen = []
    while len(chosen) < min(n, eligible.sum()):
        left = [i for i in np.flatnonzero(eligible) if i not in chosen]
        worth = lambda i: c[i] - policy.alpha * sum(a[i, s] * (1 - c[s]) for s in chosen)  # noqa: E731
        chosen.append(max(left, key=worth))
    return set(chosen)


def demask_twin(policy, c, a, eligible, masked, o):
    chosen, spent = [], 0.0
    for i in sorted(np.flatnonzero(eligible), key=lambda i: -c[i]):
        cost = sum(max(a[i, s], a[s, i]) for s in chosen)
        if spent + cost <= policy.allowance:
            chosen, spent = [*chosen, i], spent + cost
    return set(chosen)


def dapd_twin(policy, c, a, eligible, masked, o):
    s, chosen = (a + a.T) / 2, []
    places = np.flatnonzero(eligible)
    for i in sorted(places, key=lambda i: -s[i, places].sum() * c[i]):
        if all(s[i, j] <= policy.edge for j in chosen):
            chosen.append(i)
    if 2 * len(places) < o.block_masks:
        chosen += [i for i in places if c[i] > policy.threshold]
    return set(chosen)


def dawn_twin(policy, c, a, eligible, masked, o):
    a = np.where(a.mean(axis=0) > policy.sink, 0.0, a)
    places = np.flatnonzero(eligible)
    anchors = [j for j in range(LENGTH) if not masked[j] and c[j] >= policy.threshold]
    chosen = {i for i in places if c[i] >= policy.threshold}
    induced = [i for i in places if c[i] >= policy.induced]
    chosen |= {i for i in induced if any(a[i, j] >= policy.edge for j in anchors)}
    for i in sorted(set(induced) - chosen, key=lambda i: -c[i]):
        if not any(max(a[i, j], a[j, i]) >= policy.edge for j in chosen):
            chosen.add(i)
    return chosen or {max(places, key=lambda i: c[i])}


CASES = [
    (Adas(TopConfidence(5), 2.0), adas_twin, 0),
    (Adas(ConfidenceThreshold(0.5), 20.0), adas_twin, 0),
    (Demask(0.02), demask_twin, 0),
    (Demask(0.5), demask_twin, 0),
    (Dapd(0.03, 0.8), dapd_twin, 0),
    (Dapd(0.03, 0.8), dapd_twin, 9),
    (Dawn(0.8, 0.4, 0.03, 0.04), dawn_twin, 0),
    (Dawn(0.95, 0.2, 0.01, 1.0), dawn_twin, 0),
]


@pytest.mark.parametrize("policy, twin, done", CASES, ids=[f"{p}, {n}" for p, _, n in CASES])
def test_equals_its_twin(policy, twin, done):
    """With so many positions of the block revealed before."""
    seen = observe(5)._replace(dependence=jnp.asarray(dependences(), jnp.float32))
    seen = seen._replace(block_masks=seen.block_masks + done)
    got = reveal(policy, seen)
    odds = np.exp(np.asarray(seen.logits, float))
    scores = (odds / odds.sum(axis=-1, keepdims=True)).max(axis=-1)
    for row in range(CHECKED):
        o = jax.tree.map(lambda leaf: np.asarray(leaf[row]), seen)  # noqa: B023
        if o.eligible.any():
            expected = twin(policy, scores[row], o.dependence, o.eligible, o.is_masked, o)
            assert set(np.flatnonzero(got[row])) == expected


@pytest.mark.parametrize("base", [TopConfidence(5), ConfidenceThreshold(0.6)])
def test_no_discount_is_the_base(base):
    seen = observe(8)._replace(dependence=jnp.asarray(dependences(), jnp.float32))
    np.testing.assert_array_equal(reveal(Adas(base, 0.0), seen), reveal(base, seen))


def test_no_discount_generates_what_the_base_does_token_for_token():
    table = np.array(list(itertools.product(range(3), repeat=4)))
    probs = np.random.default_rng(1).dirichlet(np.full(len(table), 0.5))
    oracle, config = oracle_of(table, 3, 3, probs), SamplerConfig(3, 4, budget=4, temperature=1.0)
    base = TopConfidence(2)
    policies = as_switch((base, Adas(base, 0.0), Adas(base, 40.0)))

    def run(policy):
        rows = jax.random.split(jax.random.key(2), 64), jnp.full((64, 4), 3)
        return sample(*rows, denoise=oracle, policy=policy, config=config)

    plain, without, discounted = map(run, policies)
    np.testing.assert_array_equal(plain.canvas, without.canvas)
    np.testing.assert_array_equal(plain.revealed_at, without.revealed_at)
    assert (plain.revealed_at != discounted.revealed_at).any()


def test_exact_dependence_takes_one_of_each_pair_of_copies():
    config = SamplerConfig(3, 4, budget=6, temperature=1.0, record=True)
    for policy in (Demask(0.01), Dapd(0.01)):
        blank = jnp.full((ROWS, 6), 3)
        made = sample(keys(1), blank, denoise=COPIES, policy=policy, config=config)
        np.testing.assert_array_equal(made.nfe, 2)
        np.testing.assert_array_equal(made.canvas[:, :3], made.canvas[:, 3:])


def test_a_head_gives_the_rule_its_dependences():
    """u_i . v_j of hidden states, by hand, in the place of what the denoiser says."""
    seen, hidden = observe(6), np.random.default_rng(0).normal(size=(ROWS, LENGTH, 3))
    network = PairNetwork(PairConfig(width=4))
    params = network.init(jax.random.key(0), jnp.zeros((LENGTH, 3)))["params"]
    policy = PredictedPairs(network, params, Demask(0.3))
    got = reveal(policy, seen._replace(hidden=jnp.asarray(hidden, jnp.float32)))

    def dense(x, name):
        return x @ np.asarray(params[name]["kernel"]) + np.asarray(params[name]["bias"])

    x = dense(hidden, "features")
    x = x / (1 + np.exp(-x))
    logits = np.einsum("nid,njd->nij", dense(x, "rows"), dense(x, "columns")) / 2 - 2
    found = 1 / (1 + np.exp(-logits)) * ~np.eye(LENGTH, dtype=bool)
    expected = reveal(Demask(0.3), seen._replace(dependence=jnp.asarray(found, jnp.float32)))
    assert 1.5 < expected.sum() / (seen.eligible.any(axis=1).sum()) < 8
    np.testing.assert_array_equal(got, expected)
    assert policy.wants_hidden and not getattr(policy, "wants_dependence", False)


def test_a_denoiser_without_dependence_is_refused():
    plain = jax.tree_util.Partial(lambda canvas, valid, positions=None: jnp.zeros((6, 3)))
    config = SamplerConfig(3, 4, budget=6)
    key = jax.random.split(jax.random.key(0), 1)
    with pytest.raises(
        ValueError, match="Demask wants dependence, but the denoiser Partial gives none"
    ):
        sample(key, jnp.full((1, 6), 3), denoise=plain, policy=Demask(), config=config)
