"""The Markov chain: its sequences, its verifier, its streams, and the order that is best for it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.denoisers.markov_oracle import MarkovOracle
from mdm_jax.orders.fidelity.likelihood import order_likelihood
from mdm_jax.orders.fidelity.teacher_forcing import Forcing
from mdm_jax.orders.variational.model import Sequence
from mdm_jax.policies.base import RevealAll
from mdm_jax.policies.bisection import Bisection
from mdm_jax.policies.heuristics import EntropyBound
from mdm_jax.runs.denoisers import exact_denoiser
from mdm_jax.tasks.markov_chain import MarkovChain, transition_error
from mdm_jax.tasks.markov_chain.transitions import draw_transitions, stationary

TASK = MarkovChain()
SMALL = MarkovChain(length=7, states=3, successors=2)
MASK = TASK.vocabulary.mask_id


def entropy(probs):
    logs = np.log(np.where(probs > 0, probs, 1.0))
    return -(probs * logs).sum(axis=-1)


# ---- the chain ---------------------------------------------------------------------------------


@pytest.mark.parametrize("states, successors", [(2, 2), (3, 2), (8, 3), (20, 2), (5, 5)])
def test_matrices_are_sparse_and_ergodic(states, successors):
    for seed in range(5):
        matrix = draw_transitions(np.random.default_rng(seed), states, successors)
        np.testing.assert_allclose(matrix.sum(axis=1), 1.0)
        np.testing.assert_array_equal((matrix > 0).sum(axis=1), successors)
        far = np.linalg.matrix_power(matrix, 100_000)
        np.testing.assert_allclose(far, np.tile(stationary(matrix), (states, 1)), atol=1e-9)


def test_the_seed_of_the_matrix_draws_it():
    assert (MarkovChain(length=4).transitions == TASK.transitions).all()
    assert (MarkovChain(matrix_seed=1).transitions != TASK.transitions).any()


def test_sequences_have_the_chains_pairs_and_independent_draws_have_not():
    tokens = TASK.train_batch(0, 0, 50_000).tokens
    known = TASK.transitions, TASK.initial
    independent = np.random.default_rng(0).permuted(tokens, axis=0)  # the same marginals
    assert transition_error(tokens, *known) < 0.01 < 0.3 < transition_error(independent, *known)


def test_transition_error_by_hand():
    """Always 0 1 where the chain says 0 0 or 0 1, evenly: half of the mass is elsewhere."""
    matrix, initial = np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([1.0, 0.0])
    assert transition_error(np.array([[0, 1]] * 4), matrix, initial) == 0.5
    assert transition_error(np.array([[0, 1, 0], [0, 0, 1]]), matrix, initial) == 0.125


def test_streams_are_pure_functions_without_common_sequences():
    fresh = MarkovChain()
    batch = TASK.train_batch(3, 4, 6)
    np.testing.assert_array_equal(batch.tokens, fresh.train_batch(3, 4, 6).tokens)
    parts = [batch, TASK.train_batch(3, 5, 6), TASK.train_batch(4, 4, 6), TASK.heldout()]
    rows = [tuple(row) for part in parts for row in part.tokens.tolist()]
    assert len(set(rows)) == len(rows)
    np.testing.assert_array_equal(TASK.heldout().tokens, fresh.heldout().tokens)
    few, many = TASK.examples("test", 3).canvases, TASK.examples("test", 9).canvases
    np.testing.assert_array_equal(few, many[:3])
    assert (TASK.examples("train", 9).canvases != many).any()


def test_prompts_show_some_tokens_at_any_position():
    canvases = TASK.examples("test", 400).canvases
    shown = canvases != MASK
    assert set(shown.sum(axis=1)) == {0, 1, 2, 3} and shown.any(axis=0).all()
    clean = TASK.train_batch(0, 0, 400)
    shown = ~TASK.with_prompts(clean, 1).maskable
    assert set(shown.sum(axis=1)) == {0, 1, 2, 3} and shown.any(axis=0).all()
    assert (MarkovChain(min_revealed=2, max_revealed=2).examples().canvases != MASK).sum() == 512


# ---- the verifier ------------------------------------------------------------------------------


def test_the_verifier_accepts_the_chain_and_nothing_else():
    verify = jax.jit(jax.vmap(TASK.verify))
    tokens = TASK.train_batch(0, 0, 50).tokens
    shown = np.where(np.arange(TASK.length) == 3, tokens, MASK)
    assert verify(tokens, shown).all()
    assert not verify(tokens, (shown + (shown < MASK)) % MASK).any()  # another token in the prompt
    assert not verify(np.where(np.arange(TASK.length) == 30, MASK, tokens), shown).any()
    forbidden = tokens.copy()
    forbidden[:, 9] = [np.argmax(TASK.transitions[t] == 0) for t in tokens[:, 8]]
    assert not verify(forbidden, shown).any()


def test_decode_shows_a_letter_for_each_state():
    assert SMALL.decode(np.arange(5)) == "ABC▁"  # the last two are MASK and PAD


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"states": 1}, "successors 3 and states 1"),
        ({"successors": 1}, "successors 1"),
        ({"states": 63}, "<= 62"),
        ({"max_revealed": 31}, "max_revealed <= 30"),
        ({"min_revealed": 4}, "from 4 to 3"),
        ({"num_examples": 0}, "num_examples 0"),
        ({"matrix_seed": -1}, "matrix_seed -1"),
    ],
)
def test_settings_that_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MarkovChain(**settings)


# ---- orders under exact conditionals -----------------------------------------------------------


@pytest.fixture(scope="module")
def listed():
    """All sequences of the small chain that are possible, and their probabilities."""
    table = np.array(list(itertools.product(range(3), repeat=SMALL.length)))
    probs = SMALL.initial[table[:, 0]] * SMALL.transitions[table[:, :-1], table[:, 1:]].prod(axis=1)
    return table[probs > 0], probs[probs > 0]


def kl_and_calls(policy, listed):
    """KL(data || sampler) in nats, exact, and the calls of each sequence."""
    table, probs = listed
    oracle = exact_denoiser(SMALL)
    assert isinstance(oracle, MarkovOracle)
    forcing = Forcing(oracle.mask_id, SMALL.vocabulary.pad_id, SMALL.length)
    keys = jax.random.split(jax.random.key(0), len(table))
    rows = Sequence(jnp.asarray(table), jnp.ones(table.shape, bool))
    found = order_likelihood(keys, rows, policy, oracle, forcing)
    return float(probs @ (np.log(probs) - np.asarray(found.log_prob))), np.asarray(found.calls)


def test_bisection_loses_nothing(listed):
    np.testing.assert_allclose(listed[1].sum(), 1.0)
    nats, calls = kl_and_calls(Bisection(), listed)
    assert abs(nats) < 1e-5 and set(calls) == {3}


def test_all_at_once_loses_the_total_correlation(listed):
    """(length - 1) times the mutual information of neighbours."""
    nats, calls = kl_and_calls(RevealAll(), listed)
    neighbours = entropy(SMALL.initial) - SMALL.initial @ entropy(SMALL.transitions)
    np.testing.assert_allclose(nats, (SMALL.length - 1) * neighbours, rtol=1e-4)
    assert set(calls) == {1}


def test_an_entropy_bound_of_more_calls_loses_more(listed):
    nats, calls = kl_and_calls(EntropyBound(0.5), listed)
    assert calls.mean() > 3 and nats > 0.01
