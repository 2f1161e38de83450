"""Tasks in natural language for published checkpoints."""

from mdm_jax.tasks.prompted.base import Prompted
from mdm_jax.tasks.prompted.free_prompt import FreePrompt
from mdm_jax.tasks.prompted.gsm8k import PromptedGsm8k
from mdm_jax.tasks.prompted.humaneval import HumanEval
from mdm_jax.tasks.prompted.math import PromptedMath

__all__ = ["FreePrompt", "HumanEval", "Prompted", "PromptedGsm8k", "PromptedMath"]
