"""The exact table: its worlds, its numbers against other ways to them, and its files."""

import json
from functools import partial
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.denoisers.markov_oracle import markov_oracle_of
from mdm_jax.evals.exact.bench import bench_for, told_with_errors
from mdm_jax.evals.exact.files import WorldTable, comma_separated, limit_curve, write_tables
from mdm_jax.evals.exact.limit import limits
from mdm_jax.evals.exact.measure import random_excess
from mdm_jax.evals.exact.policies import Entry, table_policies
from mdm_jax.evals.exact.table import best_in, cells, columns_of, measure_all, settings_of
from mdm_jax.evals.exact.worlds import CHAINS, World, all_worlds, copy_pairs, listed_world
from mdm_jax.orders.counts import excess_nats
from mdm_jax.policies.bisection import Bisection
from mdm_jax.policies.count_schedules import GivenCounts
from mdm_jax.policies.heuristics import EntropyBound, LeftToRight, Random
from mdm_jax.policies.remasking.p2 import P2
from mdm_jax.tasks.base import Batch
from mdm_jax.tasks.chains.listed import listed_answers
from mdm_jax.tasks.markov_chain import transition_error

COPIES = np.repeat(np.indices((3, 3)).reshape(2, -1).T, 2, axis=1).astype(np.int32)  # a a b b
WORLD = listed_world("copies", "two tokens, each twice", COPIES, 3)
LOG3 = np.log(3)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    home = tmp_path_factory.mktemp("table")
    bench = bench_for(WORLD, samples=256, draws=4, seed=0)
    entries = [
        Entry(LeftToRight(2, GivenCounts((2, 2)))),  # both copies of a token together, twice
        Entry(Random(2)),
        Entry(EntropyBound(0.5)),
        Entry(P2(2), followed=False),
    ]
    first = measure_all(bench, entries, home)
    assert repr(measure_all(bench, entries, home)) == repr(first)  # from the file
    return home, bench, first


def test_copies_that_are_drawn_together(rows):
    """Each of two calls loses log 3, so a ninth of the sequences is right, and all alike."""
    _, bench, (pairs, *_) = rows
    found = pairs.measured
    assert found.calls == (2.0, 0.0)
    np.testing.assert_allclose(found.by_call, [LOG3, LOG3, 0, 0], atol=1e-5)
    np.testing.assert_allclose(found.excess, (2 * LOG3, 0), atol=1e-5)
    np.testing.assert_allclose(found.data_sampler, (2 * LOG3, 0), atol=1e-5)
    np.testing.assert_allclose(found.sampler_data, (0, 0), atol=1e-5)
    np.testing.assert_allclose(found.total_variation, (8 / 9, 0), atol=1e-5)
    assert found.valid.low < 1 / 9 < found.valid.high
    expected = excess_nats(bench.profile, (2, 2))
    np.testing.assert_allclose(found.random_positions, (expected, 0), atol=1e-5)


def test_a_random_order_loses_what_the_profile_says(rows):
    """h = log 3 at first; with one token shown one of three positions is its copy; and so on."""
    _, bench, (_, random, *_) = rows
    np.testing.assert_allclose(bench.profile, LOG3 * np.array([1, 2 / 3, 1 / 3, 0]), atol=0.02)
    assert random.measured.excess.low - 0.02 < random.measured.random_positions.value
    assert random.measured.random_positions.value < random.measured.excess.high + 0.02


def test_a_bound_on_entropy_finds_the_copies(rows):
    _, _, (_, _, bound, remasking) = rows
    found = bound.measured
    np.testing.assert_allclose(found.excess, (0, 0), atol=1e-5)
    assert found.valid.value == 1.0 and found.calls.value == 3.0
    assert cells(bound)[1] == "100.0" and cells(bound)[2] == "0.000"
    assert cells(remasking)[2].startswith("~ ") and cells(remasking)[5] == "-"


def test_counts_between_two_numbers_of_calls():
    profile = np.array([3.0, 2.0, 1.0])
    ends = [excess_nats(profile, c) for c in [(3,), (1, 2)]]
    assert best_in(profile, 1.25) == pytest.approx(0.75 * ends[0] + 0.25 * ends[1])
    assert best_in(profile, 3.0) == best_in(profile, 7.5) == 0.0
    counts = np.array([[1, 2, 0], [3, 0, 0]])
    np.testing.assert_allclose(random_excess(counts, profile), ends[::-1])


def test_a_chain_is_measured_by_bounds(tmp_path):
    """Bisection is exact, and two neighbours at once lose their mutual information."""
    transitions, initial = np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([0.5, 0.5])
    oracle = markov_oracle_of(transitions, initial, 3, 2)

    def draw(rng, count):
        steps = rng.random((count, 2)) < 0.1
        first = rng.integers(2, size=(count, 1))
        tokens = np.concatenate([first, (first + np.cumsum(steps, axis=1)) % 2], axis=1)
        return Batch(tokens.astype(np.int32), np.ones(tokens.shape, bool))

    error = partial(transition_error, transitions=transitions, initial=initial)
    world = World("chain", "a chain", oracle, draw, transition_error=error)
    bench = bench_for(world, samples=512, draws=2, seed=0)
    entries = [Entry(Bisection()), Entry(LeftToRight(2, GivenCounts((2, 1))))]
    made = measure_all(bench, entries, tmp_path)
    exact, pair = (row.measured for row in made)
    for found in (exact.excess, exact.data_sampler, exact.sampler_data, exact.total_variation):
        np.testing.assert_allclose(found.value, 0, atol=1e-5)
    information = np.log(2) + 0.9 * np.log(0.9) + 0.1 * np.log(0.1)
    assert abs(pair.excess.value - information) < 4 * pair.excess.error
    # the sampler's first two tokens are independent: its divergence from the chain in closed form
    back = 0.5 * np.log(0.25 / 0.45) + 0.5 * np.log(0.25 / 0.05)
    assert abs(pair.sampler_data.value - back) < 4 * pair.sampler_data.error
    assert abs(pair.total_variation.value - 0.4) < 4 * pair.total_variation.error
    # of the two transitions the first is drawn as if there were none, and the second is right
    assert abs(pair.transitions.value - 0.2) < 4 * pair.transitions.error + 0.02
    assert exact.transitions.value < 0.05 < pair.transitions.low
    assert columns_of(made)[-1] == "TE" and cells(made[1])[-1].startswith("0.2")
    assert told_with_errors(bench).startswith("a chain; TE of 512 of its own sequences 0.0")


def test_files(rows):
    home, bench, found = rows
    best = limits(WORLD)
    np.testing.assert_allclose(best, [(2, 0, 1), (1, 2 * LOG3, 1 / 9)], atol=1e-9)
    tables = [WorldTable("copies", "two tokens", found, limit_curve(bench.profile), best)]
    write_tables(tables, home)
    assert (home / "exact.png").stat().st_size > 10_000
    text = (home / "table.md").read_text()
    assert "| `LeftToRight` | steps 2, 2,2 | 2.00 |" in text
    assert "the least that any policy loses: 0.000 nats in 2.00 calls; 2.197 nats in 1.00" in text
    assert len(text.splitlines()) == 4 + 2 + len(found)
    lines = comma_separated(found).splitlines()
    assert len(lines) == 1 + len(found) and lines[1].startswith("copies,LeftToRight,")
    assert [settings_of(row) for row in found[1:3]] == ["steps 2", "gamma 0.5"]
    kept = (home / "rows.jsonl").read_text().splitlines()
    assert len({json.loads(line)["label"] for line in kept}) == len(found) == len(kept)


def test_worlds_are_distributions_whose_sequences_the_oracle_knows():
    names = []
    for world in all_worlds():
        clean = world.draw(np.random.default_rng(0), 8)
        assert len(set(clean.maskable.sum(axis=1).tolist())) == 1
        log_probs = jax.vmap(world.oracle.log_prob)(jnp.asarray(clean.tokens))
        assert np.isfinite(log_probs).all()
        if world.table is not None:
            assert world.probs.sum() == pytest.approx(1) and (world.probs > 0).all()
        names.append(world.name)
    assert names == ["sudoku", "sudoku-clues", "chains", "markov-chain", "copy-pairs"]
    assert (copy_pairs()[:, :4] == copy_pairs()[:, 4:]).all() and len(copy_pairs()) == 256


def test_answers_are_those_of_drawn_programs():
    tokens, probs = listed_answers(CHAINS)
    texts = [CHAINS.decode(row).replace(" ", "") for row in tokens]
    assert len(set(texts)) == len(texts) and probs.sum() == pytest.approx(1)
    assert all(eval(t[2:5]) == int(t[6]) for t in texts)  # <<3+2=5>>...
    drawn = [
        p.solution for p in islice(CHAINS._programs(np.random.default_rng(0), "train", 500), 500)
    ]
    assert set(drawn) <= set(texts)
    share = np.mean([text.startswith("<<4") for text in drawn])
    assert share == pytest.approx(probs[[t.startswith("<<4") for t in texts]].sum(), abs=0.08)


def test_policies_are_followed_only_where_they_can_be():
    apart = ("remasking", "lookahead", "credit")
    for entry in table_policies(np.linspace(1, 0.1, 16), 4):
        module = type(entry.policy).__module__
        assert entry.followed != any(f".{name}" in module for name in apart)
