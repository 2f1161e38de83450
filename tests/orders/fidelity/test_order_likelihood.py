"""The likelihood of orders: against NumPy, as a distribution, and what fidelity means."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from listed_world import (
    COPIES,
    EVERYTHING,
    FORCING,
    LENGTH,
    LOG_P,
    MASK,
    ORACLE,
    PAD,
    PROBS,
    TABLE,
    Rule,
    row_keys,
    rule_path,
    whole,
)
from order_world import EOS, Tabular, random_world
from order_world import LENGTH as SMALL
from order_world import MASK as SMALL_MASK
from order_world import PAD as SMALL_PAD
from order_world import sequences as all_small_sequences

from mdm_jax.orders.fidelity.likelihood import (
    Reference,
    follow_order,
    order_likelihood,
    sequential_likelihood,
)
from mdm_jax.orders.fidelity.ragged import run_ragged
from mdm_jax.orders.fidelity.returns import capped_ratio, fidelity
from mdm_jax.orders.fidelity.teacher_forcing import Forcing
from mdm_jax.policies.heuristics import (
    ConfidenceThreshold,
    EntropyBound,
    LeftToRight,
    Random,
    TopConfidence,
)
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample

NO_CLIP = replace(FORCING, clip=1e9)
NOISE = Tabular(jnp.float32(random_world(3).logits))  # a denoiser of random numbers
SMALL_FORCING = Forcing(SMALL_MASK, SMALL_PAD, SMALL)


def likelihood(policy, tokens, forcing=FORCING):
    return order_likelihood(row_keys(0, len(tokens)), whole(tokens), policy, ORACLE, forcing)


@pytest.mark.parametrize("threshold", [0.55, 0.7, 0.9])
def test_the_likelihood_is_that_of_the_steps(threshold):
    found = likelihood(Rule(threshold), TABLE)
    by_hand = [rule_path(x, threshold) for x in TABLE]
    np.testing.assert_allclose(found.log_prob, [total for total, _ in by_hand], atol=1e-5)
    np.testing.assert_array_equal(found.calls, [len(sets) for _, sets in by_hand])
    rule, rows = Rule(threshold), (row_keys(0, len(TABLE)), whole(TABLE))
    walks = follow_order(*rows, rule, ORACLE, FORCING)
    steps = [np.argmax(sets, axis=0) for _, sets in by_hand]
    np.testing.assert_array_equal(walks.step, steps)


@pytest.mark.reuses_keys
@pytest.mark.parametrize("blocks", [None, 2])
@pytest.mark.parametrize(
    "policy",
    [ConfidenceThreshold(0.5), EntropyBound(0.7), TopConfidence(2), Random(3), LeftToRight(2)],
    ids=lambda p: type(p).__name__,
)
def test_over_all_sequences_probabilities_add_up_to_one(policy, blocks):
    """A random policy has to have the same key for all."""
    tokens = np.stack(all_small_sequences())
    keys = jnp.broadcast_to(jax.random.key(0), (len(tokens),))
    forcing = replace(SMALL_FORCING, block_length=blocks)
    found = order_likelihood(keys, whole(tokens), policy, NOISE, forcing)
    np.testing.assert_allclose(np.exp(found.log_prob).sum(), 1.0, rtol=1e-5)


def test_what_follows_an_eos_costs_nothing():
    ended = set()
    for x in all_small_sequences():
        after = np.cumsum(x == EOS) - (x == EOS) > 0
        ended.add(tuple(np.where(after, EOS, x).tolist()))
    tokens = np.array(sorted(ended))
    forcing = replace(SMALL_FORCING, eos_id=EOS)
    keys = row_keys(0, len(tokens))
    found = order_likelihood(keys, whole(tokens), LeftToRight(SMALL), NOISE, forcing)
    np.testing.assert_allclose(np.exp(found.log_prob).sum(), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(found.calls, np.minimum((tokens != EOS).sum(axis=1) + 1, SMALL))


def test_the_last_call_reveals_all():
    short = likelihood(EntropyBound(-1.0), TABLE, replace(FORCING, budget=1))
    by_hand = [np.log([PROBS @ (TABLE[:, i] == x[i]) for i in range(LENGTH)]).sum() for x in TABLE]
    np.testing.assert_allclose(short.log_prob, by_hand, rtol=1e-5)
    np.testing.assert_array_equal(short.calls, 1)


def test_tokens_that_cannot_be_are_clipped():
    """[0, 0, 1, 0]: the third digit cannot be after two zeros of which the fourth is not 1."""
    found = likelihood(LeftToRight(LENGTH), np.array([[0, 0, 1, 0]]), replace(FORCING, clip=3.0))
    logs = np.log([PROBS @ (TABLE[:, 0] == 0), 6 / 8, 2 / 6])
    np.testing.assert_allclose(found.log_prob[0], logs.sum() - 3, rtol=1e-4)


@pytest.mark.parametrize(
    "reference", [Reference(), Reference(Random(LENGTH), orders=3), Reference(EntropyBound(0.0))]
)
def test_sequential_decoding_of_exact_conditionals_is_exact(reference):
    found = sequential_likelihood(jax.random.key(1), whole(TABLE), reference, ORACLE, FORCING)
    np.testing.assert_allclose(found.log_prob, np.log(PROBS), atol=1e-5)


@pytest.mark.reuses_keys
def test_random_orders_are_averaged_as_probabilities():
    sequences, key = whole([[0, 1, 2, 0]]), jax.random.key(4)
    reference, forcing = Reference(Random(SMALL), orders=3), replace(SMALL_FORCING, budget=2)
    found = sequential_likelihood(key, sequences, reference, NOISE, forcing)
    keys = [jax.random.fold_in(jax.random.fold_in(key, i), 0)[None] for i in range(3)]
    each = partial(order_likelihood, policy=Random(SMALL), denoise=NOISE, forcing=SMALL_FORCING)
    logs = [each(k, sequences).log_prob for k in keys]
    assert np.ptp(logs) > 0.01
    np.testing.assert_allclose(found.log_prob, np.log(np.exp(logs).mean(axis=0)), rtol=1e-5)
    assert found.calls[0] == 3 * SMALL


@pytest.mark.parametrize("threshold", [0.55, 0.7])
def test_fidelity_is_mass_overlap_and_divergence(threshold):
    """By enumeration of all that the order generates, whether it is in the distribution or not."""
    order = np.exp([rule_path(x, threshold)[0] for x in EVERYTHING])
    np.testing.assert_allclose(order.sum(), 1.0, rtol=1e-6)
    data = np.array([PROBS[(x == TABLE).all(axis=1)].sum() for x in EVERYTHING])
    found = likelihood(Rule(threshold), COPIES, NO_CLIP)
    got = fidelity(found.log_prob, jnp.asarray(LOG_P), found.calls)
    np.testing.assert_allclose(got.mass, order[data > 0].sum(), rtol=1e-5)
    np.testing.assert_allclose(got.overlap, 1 - 0.5 * np.abs(order - data).sum(), rtol=1e-5)
    kl = np.sum(data[data > 0] * np.log(data[data > 0] / order[data > 0]))
    np.testing.assert_allclose(got.lost_nats, kl, atol=1e-5)
    assert 0.4 < got.overlap < 0.99


def test_the_mass_is_the_success_of_the_sampler():
    policy, count = ConfidenceThreshold(0.6), 4000
    found = likelihood(policy, COPIES, NO_CLIP)
    config = SamplerConfig(mask_id=MASK, pad_id=PAD, budget=LENGTH, temperature=1.0)
    canvases = jnp.full((count, LENGTH), MASK)
    drawn = sample(row_keys(3, count), canvases, denoise=ORACLE, policy=policy, config=config)
    valid = (np.asarray(drawn.canvas)[:, None] == TABLE).all(axis=2).any(axis=1)
    mass = float(fidelity(found.log_prob, jnp.asarray(LOG_P), found.calls).mass)
    assert abs(valid.mean() - mass) < 4 * np.sqrt(mass * (1 - mass) / count)
    assert mass < 0.95


def test_the_ratio_is_capped():
    logs = jnp.log(jnp.array([0.5, 1.0, 3.0]))
    np.testing.assert_allclose(capped_ratio(logs, 1.0), [0.5, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(capped_ratio(logs, 2.0), [0.5, 1, 2], rtol=1e-6)


@pytest.mark.parametrize("chunk", [1, 3, 8, 100])
def test_rows_of_different_lengths_end_where_they_end_alone(chunk):
    lengths = jnp.array([3, 0, 7, 1, 1, 5, 2, 0, 4])

    def step(row, factor):
        return row[0] + 1, row[1] * factor

    run = partial(run_ragged, step, lambda row: row[0] < 7, chunk=chunk)
    counts, powers = jax.jit(run)((7 - lengths, jnp.ones(9, jnp.int32)), jnp.arange(9))
    np.testing.assert_array_equal(counts, 7)
    np.testing.assert_array_equal(powers, np.arange(9) ** np.asarray(lengths))
