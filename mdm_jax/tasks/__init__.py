"""The tasks by name: those that denoisers are trained on here, those put to published checkpoints."""

from mdm_jax.tasks.chains.task import Chains
from mdm_jax.tasks.gsm8k.task import Gsm8k
from mdm_jax.tasks.prompted.free_prompt import FreePrompt
from mdm_jax.tasks.prompted.gsm8k import PromptedGsm8k
from mdm_jax.tasks.prompted.humaneval import HumanEval
from mdm_jax.tasks.prompted.math import PromptedMath
from mdm_jax.tasks.sudoku.task import Sudoku
from mdm_jax.tasks.text.task import Text8

TASKS = {task.name: task for task in (Sudoku, Chains, Gsm8k, Text8)}
PROMPTED = {task.name: task for task in (PromptedGsm8k, PromptedMath, HumanEval, FreePrompt)}
