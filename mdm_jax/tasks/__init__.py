"""The tasks by name."""

from mdm_jax.tasks.chains import Chains
from mdm_jax.tasks.gsm8k import Gsm8k
from mdm_jax.tasks.sudoku import Sudoku
from mdm_jax.tasks.text import Text8

TASKS = {task.name: task for task in (Sudoku, Chains, Gsm8k, Text8)}
