"""Sampling with a cache: against a plain loop, against no cache, and row by row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published_world import MASK, PAD, small
from sampling_world import Hesitant, quick_sample, row_keys, row_of, toy, twin

from mdm_jax.policies.base import RevealOnly
from mdm_jax.policies.heuristics import ConfidenceThreshold, LowEntropy, TopConfidence
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.sampling import cached_loop
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample

EOS, WINDOW, BLOCK, LENGTH = 1, 12, 4, 20
RNG = np.random.default_rng(0)


def prompted(prompt, response=WINDOW):
    """A prompt of so many tokens, so many masks, then padding."""
    tokens = RNG.integers(2, 20, prompt)
    return np.concatenate(
        [tokens, np.full(response, MASK), np.full(LENGTH - prompt - response, PAD)]
    )


CANVASES = np.stack([prompted(3), prompted(8), prompted(5), prompted(1), prompted(6, 7)])
CANVASES[2, 6:9] = 7  # the first block of the third row is nearly all given
CANVASES[3, 1:5] = 9  # and the fourth is shorter than the window


def config(kind=None, refresh=None, **settings):
    given = {"gen_length": WINDOW, "block_length": BLOCK, "budget": 30, "record": True} | settings
    return SamplerConfig(mask_id=MASK, pad_id=PAD, cache=kind, refresh=refresh, **given)


DUAL, PREFIX = config("dual", temperature=1.0), config("prefix", temperature=1.0)
REMASKED = config("dual", 2, temperature=1.0)


def run(policy, config, rows=(0, 1, 2, 3, 4), name="llada", seed=0):
    canvases = jnp.asarray(CANVASES[list(rows)])
    rollout = quick_sample(row_keys(seed, rows), canvases, small(name)[0], policy, config)
    return jax.tree.map(np.asarray, rollout)


def same(got, expected):
    """All but the recorded floats, which XLA rounds differently in different programs."""
    assert got.canvas.tolist() == expected.canvas.tolist()
    assert got.nfe.tolist() == expected.nfe.tolist()
    assert got.revealed_at.tolist() == expected.revealed_at.tolist()
    for name in ("unmask", "remask", "is_masked", "eligible"):
        np.testing.assert_array_equal(getattr(got.trace, name), getattr(expected.trace, name))
    np.testing.assert_allclose(got.trace.confidence, expected.trace.confidence, atol=1e-4)


@pytree_dataclass
class Brightest(RevealOnly):
    """Reveals the position whose hidden state has the largest first feature."""

    wants_hidden = True

    def unmask(self, key, observation):
        shine = jnp.where(observation.eligible, observation.hidden[:, 0], -jnp.inf)
        return observation.eligible & (jnp.arange(len(shine)) == jnp.argmax(shine))


# ---- a plain loop --------------------------------------------------------------------------------


@jax.jit
def _prefill(denoise, canvas, valid):
    kv_cache = denoise.prefill(canvas, valid)
    return kv_cache, denoise.read(kv_cache)[0]


@jax.jit
def _extend(denoise, tokens, start, valid, kv_cache):
    kv_cache = denoise.extend(tokens, start, valid, kv_cache)
    return kv_cache, denoise.read(kv_cache)[0]


class Calls:
    """Calls of a row's denoiser as the cache prescribes them, one after another."""

    def __init__(self, start, settings):
        self.start, self.settings, self.block = start, settings, None

    def __call__(self, denoise, canvas, valid):
        first = int(np.argmax(np.asarray(canvas) == MASK))
        block = (first - self.start) // BLOCK
        if block != self.block:
            self.block, self.calls = block, 0
        begin = self.start + block * BLOCK
        if self.calls % (self.settings.refresh or 10**6) == 0:
            self.kv_cache, logits = _prefill(denoise, canvas, valid)
            self.logits = np.array(logits)
        else:
            end = self.start + WINDOW if self.settings.cache == "prefix" else begin + BLOCK
            tokens = canvas[begin:end]
            self.kv_cache, logits = _extend(denoise, tokens, jnp.int32(begin), valid, self.kv_cache)
            self.logits[begin : begin + BLOCK] = logits[begin : begin + BLOCK]
        self.calls += 1
        return self.logits


@pytest.mark.parametrize(
    ("policy", "settings", "name"),
    [
        (TopConfidence(9), DUAL, "llada"),
        (ConfidenceThreshold(0.3), config("prefix", 2), "dream"),
        (LowEntropy(7), config("dual", eos_id=EOS, budget=5), "smdm"),
        (Hesitant(3, 1), REMASKED, "llada"),
    ],
    ids=["dual", "prefix, refresh 2", "EOS, budget", "re-masking"],
)
def test_equals_its_twin_step_by_step(policy, settings, name):
    """One of them re-masks the whole response, blocks that were finished included."""
    got, denoise = run(policy, settings, name=name), small(name)[0]
    for row, (key, canvas) in enumerate(zip(row_keys(0, range(5)), CANVASES, strict=True)):
        start = min(int(np.argmax(canvas == MASK)), LENGTH - WINDOW)
        calls = Calls(start, settings)
        tokens, nfe, seen, revealed_at = twin(key, canvas, denoise, policy, settings, calls)
        assert got.canvas[row].tolist() == tokens.tolist() and got.nfe[row] == nfe
        assert got.revealed_at[row].tolist() == revealed_at
        names = ("is_masked", "eligible", "proposal", "unmask", "remask")
        for field, expected in zip(names, zip(*seen, strict=True), strict=True):
            np.testing.assert_array_equal(getattr(got.trace, field)[row, :nfe], expected)
        assert not any(leaf[row, nfe:].any() for leaf in jax.tree.leaves(got.trace))


# ---- no cache ------------------------------------------------------------------------------------


def test_refreshing_at_every_call_is_no_cache():
    expected = run(TopConfidence(9), config(temperature=1.0))
    same(run(TopConfidence(9), config("dual", 1, temperature=1.0)), expected)


def test_a_block_that_is_the_whole_canvas_leaves_nothing_to_keep():
    """Hidden states included: between full calls too, a policy sees what was computed last."""
    whole = {"gen_length": None, "block_length": None}
    expected = run(Brightest(), config(**whole), name="smdm")
    same(run(Brightest(), config("dual", **whole), name="smdm"), expected)


def test_what_is_kept_matters():
    found = [run(TopConfidence(9), each) for each in (config(temperature=1.0), PREFIX, DUAL)]
    assert len({str(got.canvas.tolist()) for got in found}) == 3
    for got in found:
        assert got.nfe.tolist() == found[0].nfe.tolist()
        np.testing.assert_array_equal(got.canvas[CANVASES != MASK], CANVASES[CANVASES != MASK])
        assert (got.canvas != MASK).all()


# ---- rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "settings"),
    [(TopConfidence(9), PREFIX), (Hesitant(3, 1), REMASKED)],
    ids=["prefix", "re-masking"],
)
def test_a_row_does_not_depend_on_its_neighbours(policy, settings):
    """In any order, or among copies of itself: some wait for others at every block, one policy re-masks
    blocks that were finished.
    """
    together = run(policy, settings)
    assert len(set(together.nfe.tolist())) > 2
    order = [4, 2, 0, 1, 3]
    moved = run(policy, settings, order)
    for row in range(5):
        copies = run(policy, settings, [row] * 5)
        expected = row_of(together, row)
        for found in (row_of(moved, order.index(row)), row_of(copies, 2)):
            jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_blocks_that_share_a_slice_give_the_same(monkeypatch):
    """Three blocks, of which the first two compute all twelve positions and the last one four."""
    policy, settings = ConfidenceThreshold(0.3), {"refresh": 3, "temperature": 1.0}
    expected = run(policy, config("prefix", **settings), name="dream")
    monkeypatch.setattr(cached_loop, "MOST_BRANCHES", 2)
    got = run(policy, config("prefix", budget=29, **settings), name="dream")
    assert got.canvas.tolist() == expected.canvas.tolist()
    assert got.nfe.tolist() == expected.nfe.tolist()


# ---- what is computed ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "block", "slices"),
    [("prefix", BLOCK, {12, 8, 4}), ("prefix", 1, {12, 10, 8, 6, 4, 2}), ("dual", BLOCK, {4})],
)
def test_what_is_computed_anew(kind, block, slices):
    asked = set()

    @pytree_dataclass
    class Spy:
        denoise: object

        def __call__(self, *args):
            return self.denoise(*args)

        def with_hidden(self, *args):
            return self.denoise.with_hidden(*args)

        def prefill(self, *args):
            return self.denoise.prefill(*args)

        def extend(self, tokens, *args):
            asked.add(len(tokens))
            return self.denoise.extend(tokens, *args)

        def read(self, *args):
            return self.denoise.read(*args)

    arguments = {"policy": TopConfidence(12 // block), "config": config(kind, block_length=block)}
    spy = Spy(small("llada")[0])
    jax.eval_shape(
        lambda keys: sample(keys, jnp.asarray(CANVASES), denoise=spy, **arguments),
        row_keys(0, range(5)),
    )
    assert asked == slices


def test_passes_count_every_call_that_the_batch_executed():
    """Rows wait for the slowest in each block, so there are more than any row needed."""
    calls = []

    @pytree_dataclass
    class Counting:
        denoise: object

        def __call__(self, *args):  # only to see the shapes of a trace
            return self.denoise(*args)

        with_hidden = __call__

        def prefill(self, *args):
            jax.debug.callback(lambda: calls.append("prefill"))
            return self.denoise.prefill(*args)

        def extend(self, *args):
            jax.debug.callback(lambda: calls.append("extend"))
            return self.denoise.extend(*args)

        def read(self, *args):
            return self.denoise.read(*args)

    got = quick_sample(
        row_keys(0, range(5)),
        jnp.asarray(CANVASES),
        Counting(small("llada")[0]),
        ConfidenceThreshold(0.2),
        config("dual", record=False, commit=False),
    )
    jax.block_until_ready(got)
    jax.effects_barrier()
    assert got.passes.tolist() == [len(calls)] * 5
    assert calls.count("prefill") == 3 and len(calls) > got.nfe.max()


def test_other_steps_do_not_compile_again():
    few = run(TopConfidence(3), PREFIX)
    before = quick_sample._cache_size()
    more = run(TopConfidence(12), PREFIX)
    assert quick_sample._cache_size() == before
    assert few.nfe.tolist() == [3, 3, 3, 2, 2] and more.nfe.tolist() == [12, 12, 9, 8, 7]


def test_what_cannot_be():
    with pytest.raises(
        ValueError, match="Partial keeps no cache: it has no methods prefill, extend"
    ):
        sample(
            row_keys(0, [0]),
            jnp.asarray(CANVASES[:1]),
            denoise=toy(),
            policy=TopConfidence(2),
            config=config("dual"),
        )


@pytree_dataclass
class Wide(TopConfidence):
    """The same policy, shown the whole window."""

    wants_window = True


@pytest.mark.parametrize(
    "kind, changed",
    [
        (None, {"budget": 2}),
        (None, {"commit": False, "budget": 4}),
        ("dual", {"budget": 5, "temperature": 0.0}),
    ],
    ids=str,
)
def test_looking_at_the_block_alone_changes_nothing(kind, changed):
    """Nor does running out of calls, where all that is left is looked at and revealed."""
    settings = config(kind, **({"temperature": 1.0} | changed))
    block, window = (run(policy(8), settings) for policy in (TopConfidence, Wide))
    assert block.canvas.tolist() == window.canvas.tolist()
    assert block.revealed_at.tolist() == window.revealed_at.tolist()
    assert block.nfe.tolist() == window.nfe.tolist()
    inside = window.trace.eligible
    np.testing.assert_array_equal(block.trace.eligible, inside)
    np.testing.assert_allclose(
        block.trace.confidence[inside], window.trace.confidence[inside], atol=1e-4
    )
    beyond = window.trace.is_masked & ~inside & ~window.trace.unmask
    assert (block.trace.confidence[beyond] == 0).all() and beyond.any()
