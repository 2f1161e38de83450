"""Programs at the shapes of GSM8K and LLaDA-8B, compiled and not run: what they need beside weights.

Blocks of a network use the same memory one after another, so one block stands for all of them.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.denoisers.base import bind
from mdm_jax.denoisers.pretrained.llada import LLADA_8B
from mdm_jax.denoisers.pretrained.network import PretrainedTransformer
from mdm_jax.denoisers.pretrained.smdm import SMDM_170M
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.orders import search, static
from mdm_jax.orders.variational import evaluation
from mdm_jax.orders.variational.forms.max_normalised import MaxNormalised
from mdm_jax.orders.variational.loss import OrderBatch, OrderParts, init_order, order_loss
from mdm_jax.orders.variational.model import OrderModel, Sequence
from mdm_jax.orders.variational.objective import OrderObjective
from mdm_jax.orders.variational.posterior import Scorer, ScorerConfig
from mdm_jax.policies.base import stack
from mdm_jax.policies.heuristics import EntropyBound
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.policies.networks.confidence_network import ConfidenceConfig, ConfidenceNetwork
from mdm_jax.policies.networks.policy_network import PolicyConfig, PolicyNetwork
from mdm_jax.rl.grpo import GrpoObjective
from mdm_jax.rl.learner import Learner, iterate
from mdm_jax.rl.rollouts import Prompts
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sweep
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import init_state

GIB = 2**30
LENGTH = {"gsm8k": 416, "llada": 512, "smdm": 512}
MODELS = {
    "gsm8k": OrderModel(MaxNormalised(), 10, 2048, 2049, window=224, eos_id=1),
    "llada": OrderModel(MaxNormalised(), 64, 126_336, 126_464, window=256, eos_id=126_081),
    "smdm": OrderModel(MaxNormalised(), 64, 32_000, 32_001, window=256, eos_id=2),
}
KEY = jax.eval_shape(lambda: jax.random.key(0))
SMALL = {"width": 32, "heads": 2}


def shape(*sizes, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(sizes, dtype)


def keys(count):
    return jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count))


def clean(name, count):
    size = count, LENGTH[name]
    return Sequence(shape(*size, dtype=jnp.int32), shape(*size, dtype=bool))


def denoiser(name, depth=1):
    """Without numbers."""
    if name == "gsm8k":
        config = TransformerConfig(width=768, depth=depth, heads=12, max_length=416)
        module = Transformer(config, 2048)
    else:
        config = replace({"llada": LLADA_8B, "smdm": SMDM_170M}[name], depth=depth)
        module = PretrainedTransformer(replace(config, dtype="float32"))
    canvas = jnp.zeros(4, int)
    return bind(module, jax.eval_shape(module.init, KEY, canvas, canvas == 0)["params"])


def gigabytes(lowered):
    return lowered.compile().memory_analysis().temp_size_in_bytes / GIB


def parts_of(name):
    model = MODELS[name]
    scorer = Scorer(ScorerConfig(**SMALL), model.pad_id, LENGTH[name])
    return OrderParts(
        model, scorer, PolicyNetwork(PolicyConfig(**SMALL), model.window, model.budget)
    )


def sequential(name, count=512):
    return static.sequential_nll.lower(KEY, clean(name, count), denoiser(name), MODELS[name])


def moves(name):
    model, chains, n = MODELS[name], 3, 64
    order = shape(chains, model.window, dtype=jnp.int32)
    costs = shape(chains, n, model.budget, model.window)
    state = search.Chain(order, costs, order, shape(chains))
    data = search.SearchData(clean(name, n), shape(n))
    proposals = shape(100), shape(dtype=jnp.int32)
    costs = static.DenoiserCosts(denoiser(name), model)
    return search._continue_chains.lower(keys(chains), state, proposals, data, costs)


def bound(name):
    parts, rows = parts_of(name), 64
    params = init_shapes(parts, name)
    given = params, keys(rows), clean(name, rows), denoiser(name), shape()
    return evaluation._batch_terms.lower(*given, parts=parts, paths=4)


def init_shapes(parts, name):
    return jax.eval_shape(lambda key: init_order(parts, key, LENGTH[name], parts.model.pad_id), KEY)


def sampler_of(model):
    return SamplerConfig(
        mask_id=model.mask_id,
        pad_id=model.pad_id,
        eos_id=model.eos_id,
        budget=model.window,
        gen_length=model.window,
    )


def sampling(name):
    """The baselines' knobs, on as many prompts as a comparison takes at once."""
    batch, config = 4 if name == "llada" else 78, sampler_of(MODELS[name])
    policies = stack([EntropyBound(knob) for knob in np.linspace(0.1, 1, 24)])
    canvases = shape(batch, LENGTH[name], dtype=jnp.int32)
    settings = {"denoise": denoiser(name), "policies": policies, "config": config}
    return sweep.lower(keys(batch), canvases, **settings)


def loss_of(parts):
    return partial(order_loss, parts=parts, objective=OrderObjective(samples=4))


def order_gradient(name, rows=64):
    parts = parts_of(name)
    batch = OrderBatch(*clean(name, rows), shape(rows))
    gradient = jax.jit(jax.grad(loss_of(parts), has_aux=True))
    return gradient.lower(init_shapes(parts, name), KEY, batch, denoise=denoiser(name))


def policy_step(name, prompts=16, hidden=False):
    """Rollouts of 8 for each prompt, rewards, and two updates."""
    model, denoise = MODELS[name], denoiser(name)
    network = ConfidenceNetwork(ConfidenceConfig(width=32, mlp=128, hidden=hidden))
    logits, here = shape(model.window, model.pad_id), shape(model.window, dtype=bool)
    seen = shape(model.window, denoise.module.config.width)
    features = jax.eval_shape(network.featurize, logits, here, shape(dtype=jnp.int32), seen)
    init = partial(network.init, method="utilities")
    params = jax.eval_shape(init, KEY, features)["params"]
    optimizer = make_optimizer(OptimizerConfig(), 400)
    learner = Learner(
        policy=LearnedPolicy(network, None, model.window),
        objective=GrpoObjective(),
        sampler=sampler_of(model),
        optimizer=optimizer,
    )
    state = jax.eval_shape(partial(init_state, optimizer=optimizer), params)
    given = Prompts(shape(prompts, LENGTH[name], dtype=jnp.int32), shape(prompts))
    iteration = jax.jit(partial(iterate, learner=learner, verify=lambda canvas, _: canvas[0] == 0))
    return iteration.lower(state, KEY, given, denoise)


@pytest.mark.parametrize(
    ("program", "name", "limit"),
    [
        (sequential, "gsm8k", 2.2),
        (sequential, "llada", 1.2),
        (moves, "llada", 0.6),
        (bound, "llada", 1.8),
        (sampling, "llada", 2.3),
        (policy_step, "llada", 2.5),
        (partial(policy_step, hidden=True), "gsm8k", 2.5),  # all hidden states would be 18.4
        (order_gradient, "llada", 6.0),  # 2.7 of it are matrices that a CPU transposes
    ],
)
def test_memory_beside_the_weights(program, name, limit):
    """In GiB; 512 sequences, 256 steps, 64 calls and 24 settings used to be in memory at once."""
    assert gigabytes(program(name)) < limit


def test_more_sequences_need_no_more_memory():
    few, many = (gigabytes(sequential("gsm8k", count)) for count in (78, 4096))
    assert many < few + 0.1


@pytest.mark.parametrize(("name", "rows", "limit"), [("smdm", 4, 2.0), ("gsm8k", 19, 5.0)])
def test_joint_fine_tuning_keeps_the_inputs_of_its_blocks(name, rows, limit):
    """In GiB, with 18 blocks and as many paths as are worked on at once: what the backward pass has of
    the forward pass. A CPU's compiler does not mind where a block is computed again, so it is not asked.
    """
    parts = parts_of(name)

    def kept(depth):
        denoise, batch = denoiser(name, depth), OrderBatch(*clean(name, rows), shape(rows))
        params = init_shapes(parts, name) | {"denoiser": denoise.params}

        def backward(params, *rest, denoise):
            loss = loss_of(parts)
            return jax.vjp(lambda p: loss(p, *rest, denoise=denoise), params, has_aux=True)[1]

        leaves = jax.tree.leaves(jax.eval_shape(backward, params, KEY, batch, denoise=denoise))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) / GIB

    one, two = kept(1), kept(2)
    assert one + 17 * (two - one) < limit, (one, two)
