"""The settings of the smallest run there is, in code and in words."""

from dataclasses import replace

import jax

from experiments import (
    learn_order,
    learn_policy,
    learn_variational_order,
    quickstart,
    train_denoiser,
)
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.orders.fidelity.config import ReplayConfig
from mdm_jax.orders.prompt_search import PromptSearch
from mdm_jax.orders.search import SearchConfig
from mdm_jax.orders.variational.objective import OrderObjective
from mdm_jax.orders.variational.order_choice import ChoiceConfig, ImitationConfig
from mdm_jax.orders.variational.posterior import ScorerConfig
from mdm_jax.policies.heuristics import EntropyBound, LeftToRight, TopConfidence
from mdm_jax.policies.networks.adaptive_network import AdaptiveConfig
from mdm_jax.policies.networks.confidence_network import ConfidenceConfig
from mdm_jax.policies.networks.policy_network import PolicyConfig
from mdm_jax.rl.grpo import GrpoObjective
from mdm_jax.runs.policies import PolicySpec
from mdm_jax.runs.training import open_training
from mdm_jax.training.checkpoints import save
from mdm_jax.training.denoiser import init_params
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import init_state

MODEL = TransformerConfig(width=16, depth=1, heads=2)
TRAIN = train_denoiser.Config(
    model=MODEL, steps=6, batch_size=8, save_every=3, eval_every=3, log_every=1, heldout_rows=16
)
ADAPTIVE = learn_order.Config(
    network=AdaptiveConfig(width=8, heads=2, depth=0, canvas=8, max_length=16),
    replay=ReplayConfig(capacity=16, updates=2, replayed=8, draws=2, chunk=8),
    steps=4,
    save_every=2,
    eval_every=2,
    log_every=1,
    batch_size=8,
    heldout_rows=8,
    examples=8,
)
LEARN = learn_variational_order.Config(
    train=replace(TRAIN, steps=1),
    budget=3,
    scorer=ScorerConfig(width=8, depth=1, heads=2),
    policy=PolicyConfig(width=8, heads=2, canvas=8),
    start=learn_variational_order.InitConfig(
        search=SearchConfig(proposals=4, chains=2, sequences=4, validation_sequences=4),
        by_prompt=True,
        prompt_search=PromptSearch(
            prompts=3, together=2, search=SearchConfig(proposals=2, chains=1, sequences=2)
        ),
        choice=ChoiceConfig(width=8, sequences=16, updates=4, batch_size=4),
        imitation=ImitationConfig(updates=2, batch_size=4),
        scores=ImitationConfig(updates=2, batch_size=4),
    ),
    objective=OrderObjective(samples=2),
    steps=4,
    batch_size=8,
    save_every=2,
    log_every=1,
    heldout_rows=8,
    examples=8,
    eval_batch_size=4,
)
REWARDED = learn_policy.Config(
    train=replace(TRAIN, steps=1),
    policy=PolicySpec(network=ConfidenceConfig(width=8, mlp=16)),
    objective=GrpoObjective(group=4),
    steps=6,
    prompts=4,
    pool=8,
    window=2,
    save_every=4,
    examples=8,
    eval_batch_size=4,
)
WORDS = [
    "--model.width",
    "16",
    "--model.depth",
    "1",
    "--model.heads",
    "2",
    "--steps",
    "6",
    "--batch_size",
    "8",
    "--save_every",
    "3",
    "--eval_every",
    "3",
    "--log_every",
    "1",
    "--heldout_rows",
    "16",
]
POLICIES = (LeftToRight(4), TopConfidence(4), TopConfidence(8), EntropyBound(1.0))


def tiny(directory):
    return quickstart.Config(
        train=TRAIN,
        learn=ADAPTIVE,
        learned=False,
        run_dir=str(directory),
        examples=12,
        batch_size=8,
    )


def write_untrained(directory, seed=0, task=TRAIN.task):
    """A run of train_denoiser whose checkpoint is the state before the first update."""
    model = replace(MODEL, max_length=task.length)
    module = Transformer(model, task.vocabulary.size)
    params = init_params(module, jax.random.key(seed), task.length, task.vocabulary.mask_id)
    with open_training(directory, "train_denoiser", {"task": task, "model": model}) as training:
        save(training.checkpoints, init_state(params, make_optimizer(OptimizerConfig(), 1)))


def contents(directory):
    """Every file below a directory and what is in it."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
