"""The two small tasks of the tables' default presets, and how their denoisers are trained."""

from experiments import train_denoiser
from mdm_jax.denoisers.transformer import TransformerConfig
from mdm_jax.tasks.chains import Chains
from mdm_jax.tasks.sudoku import Sudoku

SUDOKU = Sudoku()
SUDOKU_TRAINING = train_denoiser.Config(steps=6000, batch_size=64)
# Four operations and two layers: a network that does several operations in one call needs no order
# (three operations, three layers, as many updates: TopConfidence solves 80 % in 4 calls).
CHAINS = Chains(depth=4)
CHAINS_TRAINING = train_denoiser.Config(
    model=TransformerConfig(depth=2), steps=6000, batch_size=64, eval_every=1000, save_every=1000
)
