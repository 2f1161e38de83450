"""What one policy does in one world: calls, accuracy, excess nats, divergences."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.chunks import map_rows
from mdm_jax.denoisers.base import DenoiseExact
from mdm_jax.evals.exact.bench import Bench
from mdm_jax.evals.exact.worlds import World
from mdm_jax.orders.exact.divergences import Estimate, divergences
from mdm_jax.orders.exact.total_correlation import total_correlation
from mdm_jax.orders.exact.walks import Walks, walk_sequences
from mdm_jax.orders.variational.model import Sequence
from mdm_jax.policies.base import Policy
from mdm_jax.sampling.loop import sample
from mdm_jax.types import Rollout, Trace

CORRELATION_ROWS, BATCHES = 256, 16
walk = jax.jit(walk_sequences, static_argnames="forcing")
NOTHING = Estimate(float("nan"), float("nan"))


class Measured(NamedTuple):
    """What a policy does, each number with its standard error; NaN where it is not measured."""

    calls: Estimate  # of the sampler
    valid: Estimate  # share of finished sequences that the data have
    excess: Estimate  # nats that a sequence loses
    data_sampler: Estimate  # KL(data || sampler), nats
    sampler_data: Estimate  # KL(sampler || data) of the valid sequences, nats
    total_variation: Estimate
    random_positions: Estimate  # excess of the same counts with random positions
    by_call: tuple[float, ...]  # mean excess of each call
    transitions: Estimate = NOTHING  # transition error, of a chain; see `World.transition_error`


def measure(bench: Bench, policy: Policy, followed: bool) -> Measured:
    """Complete the prompts, and follow the policy along clean sequences.

    Args:
      followed: the policy only reveals, and looks at no proposed token and at no call of its own: it can
        be followed. One that cannot is measured by its samples alone, and its excess nats are the total
        correlation of the sets that it revealed on its own way.
    """
    oracle, size = bench.world.oracle, len(bench.prompts)
    config = bench.world.sampling(len(bench.profile))
    made = sample(bench.keys[:size], bench.prompts, denoise=oracle, policy=policy, config=config)
    made = made._replace(trace=made.trace._replace(record=None))
    valid = np.isfinite(np.asarray(log_probs(oracle, made.canvas)))
    measured = _followed(bench, policy, made, valid) if followed else _sampled(bench, made, valid)
    return measured._replace(
        calls=mean_of(np.asarray(made.nfe)),
        valid=mean_of(valid),
        transitions=_transitions(bench.world, np.asarray(made.canvas)),
    )


def _followed(
    bench: Bench, policy: Policy, made: Rollout, valid: Bool[np.ndarray, " m"]
) -> Measured:
    """A policy that can be followed along clean sequences."""
    count = len(bench.sequences.tokens)
    args = policy, bench.world.oracle, bench.forcing
    walks = jax.device_get(walk(bench.keys[:count], bench.sequences, *args))
    losses = np.asarray(walks.excess, float)
    if bench.world.table is not None:
        return _listed(bench, walks, losses)
    excess, ratios = losses.sum(axis=1), np.exp(-losses.sum(axis=1))
    own = Sequence(made.canvas, bench.prompts == bench.world.oracle.mask_id)
    back = -np.asarray(walk(bench.keys[: len(own.tokens)], own, *args).excess, float).sum(axis=1)
    within = mean_of(back[valid]) if valid.any() else NOTHING
    return Measured(
        calls=NOTHING,
        valid=NOTHING,
        excess=mean_of(excess),
        data_sampler=mean_of(excess),
        sampler_data=within._replace(value=within.value - np.log(max(valid.mean(), 1e-300))),
        total_variation=mean_of(np.maximum(1 - ratios, 0)),
        random_positions=mean_of(random_excess(walks.counts, bench.profile)),
        by_call=tuple(losses.mean(axis=0).tolist()),
    )


def _listed(bench: Bench, walks: Walks, losses: Float[np.ndarray, "n budget"]) -> Measured:
    """From all sequences of a world, under each of several draws of the policy's choices."""
    probs = bench.world.probs
    by_draw = losses.reshape(bench.draws, len(probs), -1)
    log_q = np.asarray(walks.log_prob, float) - losses.sum(axis=1)
    found = divergences(probs, np.exp(log_q).reshape(bench.draws, -1))
    random = random_excess(walks.counts, bench.profile).reshape(bench.draws, -1)
    return Measured(
        calls=NOTHING,
        valid=NOTHING,
        excess=mean_of(by_draw.sum(axis=2) @ probs),
        data_sampler=found.data_sampler,
        sampler_data=found.sampler_data,
        total_variation=found.total_variation,
        random_positions=mean_of(random @ probs),
        by_call=tuple((probs @ by_draw.mean(axis=0)).tolist()),
    )


def _sampled(bench: Bench, made: Rollout, valid: Bool[np.ndarray, " m"]) -> Measured:
    """From finished canvases, and the sets that were revealed on the way to some of them."""
    rows = jax.tree.map(lambda leaf: leaf[:CORRELATION_ROWS], (bench.prompts, made.trace))
    losses = np.asarray(correlations(bench.world.oracle, *rows), float)
    trace = jax.device_get(made.trace)
    counts, once = trace.unmask.sum(axis=2), not trace.remask.any()
    world = bench.world
    found = None if world.table is None else _shares(world, np.asarray(made.canvas), valid)
    return Measured(
        calls=NOTHING,
        valid=NOTHING,
        excess=mean_of(losses.sum(axis=1)),
        data_sampler=NOTHING,
        sampler_data=NOTHING if found is None else found,
        total_variation=NOTHING,
        random_positions=mean_of(random_excess(counts, bench.profile)) if once else NOTHING,
        by_call=tuple(losses.mean(axis=0).tolist()),
    )


def _shares(
    world: World, made: Int[np.ndarray, "m length"], valid: Bool[np.ndarray, " m"]
) -> Estimate:
    """KL(sampler || data) of the valid sequences from how often each was made, in batches."""
    places = world.oracle.vocab ** np.arange(made.shape[1], dtype=object)
    number = {code: i for i, code in enumerate((world.table @ places).tolist())}
    which = np.array([number.get(code, 0) for code in (made @ places).tolist()])
    batches = zip(np.array_split(which, BATCHES), np.array_split(valid, BATCHES), strict=True)
    shares = [np.bincount(w, v, len(world.table)) / len(w) for w, v in batches]
    return divergences(world.probs, np.stack(shares)).sampler_data


def _transitions(world: World, made: Int[np.ndarray, "m length"]) -> Estimate:
    """The transition error of all sequences; its standard error from leaving out a batch at a time."""
    if world.transition_error is None:
        return NOTHING
    batches = np.array_split(np.arange(len(made)), BATCHES)
    without = [world.transition_error(np.delete(made, batch, axis=0)) for batch in batches]
    return Estimate(world.transition_error(made), float(np.std(without) * (BATCHES - 1) ** 0.5))


def random_excess(
    counts: Float[np.ndarray, "n budget"] | Int[np.ndarray, "n budget"],
    profile: Float[np.ndarray, " masked"],
) -> Float[np.ndarray, " n"]:
    """What random positions lose with the counts of each row, nats; see `orders.counts`."""
    counts = np.asarray(counts, int)
    before = np.minimum(np.cumsum(counts, axis=1) - counts, len(profile) - 1)
    return np.sum(counts * profile[before], axis=1) - profile.sum()


def mean_of(
    values: Float[np.ndarray, " n"] | Int[np.ndarray, " n"] | Bool[np.ndarray, " n"],
) -> Estimate:
    """The mean of independent values."""
    values = np.asarray(values, float)
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))


@jax.jit
def log_probs(oracle: DenoiseExact, tokens: Int[Array, "n length"]) -> Float[Array, " n"]:
    """Log-probability of each sequence, nats."""
    return jax.vmap(oracle.log_prob)(tokens)


@jax.jit
def correlations(
    oracle: DenoiseExact, prompts: Int[Array, "n length"], trace: Trace
) -> Float[Array, "n budget"]:
    """Total correlation of what each call revealed, on the canvas that it saw; 0 at calls not made."""

    def one(row: tuple) -> Float[Array, " budget"]:
        prompt, trace = row

        def step(canvas: Int[Array, " length"], now: tuple) -> tuple:
            unmask, remask, proposal = now
            lost = total_correlation(oracle, canvas, unmask & (canvas == oracle.mask_id))
            canvas = jnp.where(unmask, proposal, canvas)
            return jnp.where(remask, oracle.mask_id, canvas), lost

        steps = trace.unmask, trace.remask, trace.proposal
        return jax.lax.scan(step, prompt, steps)[1]

    return map_rows(one, (prompts, trace), 64)
