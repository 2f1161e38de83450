"""What the sampler's tests share: a toy denoiser, canvases, a re-masking policy, and the loop's twin."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mdm_jax.policies.base import confidence, top
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample
from mdm_jax.types import Decision, Observation

EOS, MASK, PAD, VOCAB, LENGTH = 0, 5, 6, 7, 12
_ = MASK
CANVASES = np.array(
    [
        [_, _, _, _, _, _, _, _, _, _, _, _],
        [1, 2, 3, 4, _, _, _, _, _, _, _, _],
        [_, 1, _, 2, _, 3, _, 4, _, 1, _, 2],
        [1, 0, 3, _, _, _, _, _, _, _, PAD, PAD],
        [1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4],
        [4, 3, 2, 1, 2, _, _, 3, _, _, _, 4],
    ]
)
# a prompt, then eight positions to generate or fewer, then padding
PROMPTED = np.array(
    [
        [1, 2, _, _, _, _, _, _, _, _, PAD, PAD],
        [3, 0, 1, 2, _, _, _, _, _, _, _, _],
        [4, 4, 1, _, _, _, _, _, _, _, _, PAD],
        [2, _, _, _, _, _, _, _, _, PAD, PAD, PAD],
        [1, 2, 3, 4, 4, 3, 2, 1, _, _, PAD, PAD],  # starts too late for a window of eight
        [_, _, _, _, _, _, 1, _, PAD, PAD, PAD, PAD],
    ]
)

Config = functools.partial(SamplerConfig, mask_id=MASK, pad_id=PAD, budget=10)
PLAIN = Config(temperature=1.0, record=True)  # where nothing else is needed: it is compiled once


def row_keys(seed, indices=(0, 1, 2, 3, 4, 5)):
    """One key per example, made anew at each call."""
    base = jax.random.key(seed)
    return jax.vmap(lambda index: jax.random.fold_in(base, index))(jnp.array(indices))


def _toy(params, canvas, valid, positions=None):
    length = len(canvas)
    seen = jnp.where(valid[:, None], params["embed"][canvas], 0.0)
    mixed = jnp.dot(params["mix"][:length, :length], seen, precision="highest")
    logits = params["bias"][:length] + mixed
    return logits if positions is None else logits[positions]


def toy(seed=0, **given):
    """A denoiser without any structure: logits linear in what every position shows."""
    rng = np.random.default_rng(seed)
    params = {"embed": (VOCAB, VOCAB), "mix": (16, 16), "bias": (16, VOCAB)}
    params = {name: 1.5 * rng.normal(size=s) for name, s in params.items()} | given
    return jax.tree_util.Partial(_toy, {name: jnp.float32(x) for name, x in params.items()})


def certain(tokens, sureness):
    """A denoiser that predicts `tokens` whatever it sees, with logits `sureness`."""
    bias = np.zeros((16, VOCAB))
    bias[np.arange(LENGTH), tokens] = sureness
    return toy(mix=np.zeros((16, 16)), bias=bias)


@pytree_dataclass
class Hesitant:
    """Reveals its `count` most confident positions a step, and at its call number `at`, which it
    remembers, re-masks instead. A test double: it also asks for every position that it may not have.
    """

    at: int = 2
    count: int = 2

    def init(self, length):
        return jnp.zeros((), jnp.int32)

    def __call__(self, key, observation, state):
        regret = state == self.at
        best = top(key, confidence(observation.logits), observation.eligible, self.count)
        unmask = (best | ~observation.eligible) & ~regret
        return Decision(unmask=unmask, remask=jnp.full(best.shape, regret)), state + 1


def run(policy, config=PLAIN, canvases=CANVASES, seed=0, indices=(0, 1, 2, 3, 4, 5), denoise=None):
    """`sample` of six rows as NumPy arrays."""
    rollout = sample(
        row_keys(seed, indices),
        jnp.asarray(canvases),
        denoise=denoise or toy(),
        policy=policy,
        config=config,
    )
    return jax.tree.map(np.asarray, rollout)


def row_of(rollout, row):
    """One row of a rollout, without what is the whole batch's."""
    return jax.tree.map(lambda leaf: leaf[row], rollout._replace(passes=None))


@jax.jit
def _decide(policy, key, observation, state):
    return policy(key, observation, state)


@jax.jit
def _denoise(denoise, canvas, valid):
    return denoise(canvas, valid)


@jax.jit
def _draw(key, logits):
    """One token for each position, by a key of its own."""
    keys = jax.vmap(lambda position: jax.random.fold_in(key, position))(jnp.arange(len(logits)))
    return jax.vmap(lambda k, row: jax.random.categorical(k, row, mode="high"))(keys, logits)


def _filtered(logits, temperature, top_p):
    """Tempered logits, with -inf outside the smallest set that reaches top_p; one position."""
    logits = logits / np.float32(temperature)
    odds = np.exp(logits.astype(float) - logits.max())
    total, kept = 0.0, []
    for token in np.argsort(-odds, kind="stable"):
        if total < top_p:
            kept.append(token)
            total += odds[token] / odds.sum()
    return np.where(np.isin(np.arange(len(logits)), kept), logits, -np.inf)


@functools.partial(
    jax.jit,
    static_argnames="config",
    compiler_options={"xla_backend_optimization_level": 0},  # large programs that run for a moment
)
def quick_sample(keys, canvases, denoise, policy, config):
    """`sample`, compiled in half the time."""
    return sample(keys, canvases, denoise=denoise, policy=policy, config=config)


def twin(key, canvas, denoise, policy, config, call=_denoise):
    """The rules of the sampler as a Python loop over the steps of one row.

    `call(denoise, canvas, valid)` gives the logits of the whole canvas.

    Returns the canvas, the denoiser calls, for each call (step) what was masked, eligible, proposed,
    unmasked and re-masked, and the step of each position's last reveal.
    """
    canvas = np.array(canvas)
    valid = canvas != config.pad_id
    length = config.gen_length or len(canvas)
    start = 0
    if config.gen_length is not None and (canvas == config.mask_id).any():
        start = min(list(canvas).index(config.mask_id), len(canvas) - length)
    window = canvas[start : start + length]  # a view: writing here writes on the canvas
    response = window == config.mask_id
    block_of = np.arange(length) // (config.block_length or length)
    num_blocks, block = len(set(block_of[response])), None
    state, nfe, seen, revealed_at = policy.init(length), 0, [], [-1] * length
    for step in range(config.budget):
        masked = window == config.mask_id
        if not masked.any():
            break
        k_token, k_policy = jax.random.split(jax.random.fold_in(key, step))
        if block != block_of[masked].min():
            block, block_step = block_of[masked].min(), 0
            block_masks = (masked & (block_of == block)).sum()
        eligible = masked & (block_of == block)
        logits = np.array(call(denoise, jnp.asarray(canvas), jnp.asarray(valid)), np.float32)
        logits = logits[start : start + length]
        never = [i for i in (config.mask_id, config.pad_id) if i < logits.shape[1]]
        logits[:, never] = -np.inf
        if config.temperature == 0:
            proposal = logits.argmax(axis=-1)
        else:
            rows = [_filtered(row, config.temperature, config.top_p) for row in logits]
            proposal = np.asarray(_draw(k_token, jnp.asarray(np.array(rows, np.float32))))
        counts = (step, config.budget, block_step, block_masks, num_blocks)
        last = config.commit and step == config.budget - 1
        shown = np.full(length, last or getattr(policy, "wants_window", True))
        shown |= block_of == block
        observation = Observation(
            *(jnp.asarray(x[shown]) for x in (logits, proposal, masked, eligible)),
            *(jnp.asarray(count, jnp.int32) for count in counts),
        )
        decision, state = _decide(policy, k_policy, observation, state)
        nfe, block_step = nfe + 1, block_step + 1
        proposal = np.where(shown, proposal, 0)
        unmask, remask = np.zeros(length, bool), np.zeros(length, bool)
        unmask[shown], remask[shown] = decision.unmask, decision.remask
        unmask = masked if last else unmask & eligible
        remask = remask & response & ~masked & (not last)
        window[unmask] = proposal[unmask]
        window[remask] = config.mask_id
        ends = [i for i in range(length) if response[i] and window[i] == config.eos_id]
        for i in range(ends[0] + 1, length) if ends else ():
            if window[i] == config.mask_id:
                window[i] = config.eos_id
        for i in range(length):
            if window[i] == config.mask_id:
                revealed_at[i] = -1
            elif masked[i]:
                revealed_at[i] = step
        seen.append((masked, eligible, proposal, unmask, remask))
    return canvas, nfe, seen, revealed_at
