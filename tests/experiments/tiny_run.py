"""The settings of the smallest run there is, in code and in words."""

from experiments import quickstart, train_denoiser
from mdm_jax.denoisers.transformer import TransformerConfig
from mdm_jax.policies.heuristic import EntropyBound, LeftToRight, TopConfidence

MODEL = TransformerConfig(width=16, depth=1, heads=2)
TRAIN = train_denoiser.Config(
    model=MODEL, steps=6, batch_size=8, save_every=3, eval_every=3, log_every=1, heldout_rows=16
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
    return quickstart.Config(train=TRAIN, run_dir=str(directory), examples=12, batch_size=8)


def contents(directory):
    """Every file below a directory and what is in it."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
