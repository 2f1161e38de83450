"""GSM8K for denoisers trained from scratch, and its data and scorer."""

from mdm_jax.tasks.gsm8k.task import Gsm8k

__all__ = ["Gsm8k"]
