"""The tasks by name: `TASKS` to train denoisers on, `PROMPTED` for published checkpoints."""

from mdm_jax.tasks.chains import Chains
from mdm_jax.tasks.digits3 import Digits3
from mdm_jax.tasks.gsm8k import Gsm8k
from mdm_jax.tasks.markov_chain import MarkovChain
from mdm_jax.tasks.prompted import FreePrompt, HumanEval, PromptedGsm8k, PromptedMath
from mdm_jax.tasks.sudoku import Sudoku
from mdm_jax.tasks.text import Text8

TASKS = {task.name: task for task in (Sudoku, Chains, Gsm8k, Text8, MarkovChain, Digits3)}
PROMPTED = {task.name: task for task in (PromptedGsm8k, PromptedMath, HumanEval, FreePrompt)}
